"""How fast api-gateway forwards, beside nginx and other gateways on the same core: `make bench-gateway`."""
