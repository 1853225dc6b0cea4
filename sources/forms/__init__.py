"""The forms that captions come in: one file a form, one line of registry.py each."""
