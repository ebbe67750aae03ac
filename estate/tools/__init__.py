"""Build the pinned tools: a folder for each, with its versions in tools.toml."""
