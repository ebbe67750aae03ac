"""Benchmark of api-gateway against nginx and other gateways on the same core: `python -m bench.gateway`."""
