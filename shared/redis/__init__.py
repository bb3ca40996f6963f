"""Access to Redis, one server or a cluster. It knows nothing about events."""
