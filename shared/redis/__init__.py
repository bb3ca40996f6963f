"""How Redis is reached, one server or a cluster. It knows nothing of events."""
