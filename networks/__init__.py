"""What models are made of: encoders, decoders, searches, hooks."""
