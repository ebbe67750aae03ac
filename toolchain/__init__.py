"""Builds the tools and runs the single-machine Kubernetes that the estate needs on a bare machine."""
