"""A single-machine Kubernetes built from the tools of `estate tools build`."""
