"""The jobs, one in each file, and the sweep that requests them."""
