"""Console output, folders, and text, without knowledge of tools or stacks."""
