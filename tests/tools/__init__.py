"""Tests with the built tools: manifests, rules, workflows."""
