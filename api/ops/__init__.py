"""What orchestrators and Prometheus ask for."""
