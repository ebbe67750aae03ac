"""api-gateway: the single entry point to the services."""
