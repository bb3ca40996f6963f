"""What the api promises: every operation with its request, its answers and its description."""
