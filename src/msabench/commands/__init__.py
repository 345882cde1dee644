"""The commands of `python -m msabench`, one file each, found by name."""
