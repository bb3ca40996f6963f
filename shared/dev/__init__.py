"""For development only, not in the image: a real Redis and a launcher."""
