"""What models are made of: encoders, decoders, searches, activation hooks, GIT."""
