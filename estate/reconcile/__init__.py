"""Differences between a stack's state and its cluster that Pulumi does not repair."""
