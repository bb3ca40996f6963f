"""For a laptop, not for the image: a real Redis and a launcher beside it."""
