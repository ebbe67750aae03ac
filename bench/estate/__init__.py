"""Benchmark of the estate's program: alone, in previews and updates, against kubectl, as it grows, and in a rollout: `make bench-estate`."""
