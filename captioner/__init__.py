"""A trained captioner as one thing: load, save, caption."""
