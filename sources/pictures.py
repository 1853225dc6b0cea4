from evaluate import Pictures, spread  # noqa: F401
