"""What runs beside and between requests: batches, load shedding, caches, and requests to the workers."""
