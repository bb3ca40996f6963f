"""HTTP, with no knowledge of queues: requests, responses, errors, routing and adapters for ASGI and RSGI."""
