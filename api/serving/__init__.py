"""What runs beside and between requests: batches, load shedding, caches, what is asked of the workers."""
