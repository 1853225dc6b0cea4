"""A run: its state, checkpoints, optimizer, records and reports."""
