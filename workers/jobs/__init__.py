"""The jobs, one a file, and the sweep that asks for them."""
