"""The ingress: a raw ASGI application that batches what people ask into few Redis round trips."""
