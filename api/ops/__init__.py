"""Endpoints for orchestrators and Prometheus."""
