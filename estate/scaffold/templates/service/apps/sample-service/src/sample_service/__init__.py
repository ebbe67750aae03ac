"""sample-service: what it is for."""
