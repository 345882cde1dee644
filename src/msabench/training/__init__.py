"""The training loop, its schedule and checkpoints, and what happens around it."""
