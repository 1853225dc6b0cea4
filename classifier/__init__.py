"""A trained image classifier as one thing: load, save, classify."""
