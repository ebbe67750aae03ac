"""A real single-machine Kubernetes out of the tools that `make tools` builds."""
