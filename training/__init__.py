"""A run: its state, checkpoints, resuming, optimizer, feature cache, records and reports."""
