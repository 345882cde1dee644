"""What a run of the pipeline will take on this machine, measured by a few of its steps."""
