"""Pictures with one class each: the raw forms they come in, and what is said of them."""
