"""A stack of the project: its file, its target, its objects and its releases."""
