"""api-gateway: the one way into the services."""
