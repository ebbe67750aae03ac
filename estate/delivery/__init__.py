"""Delivery between stacks and pull requests: promotion, previews, review stacks, drift."""
