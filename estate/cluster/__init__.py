"""A single-machine Kubernetes built from the tools of `make tools`."""
