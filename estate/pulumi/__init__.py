"""Pulumi's program and its output: events, states, manifests, policies."""
