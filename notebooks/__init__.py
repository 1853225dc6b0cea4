"""Notebooks, kept without outputs, and what they need beside the rooms."""
