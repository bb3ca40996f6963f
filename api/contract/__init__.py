"""What the api promises: every operation with what it is asked and what it answers, and its description."""
