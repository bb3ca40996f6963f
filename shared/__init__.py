"""What the ingress and the workers share: the line, its keys and tokens, settings, jobs."""
