"""Helpers that several folders of tests share: clients, load, receivers, stacks of their own."""
