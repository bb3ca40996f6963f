"""What the ingress and the workers have in common: the line, its keys and tokens, settings, jobs."""
