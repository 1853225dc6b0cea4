"""What train.py needs to know of a task, and nothing else does."""
