"""Base of the errors in the project's own files."""


class ProjectError(Exception):
    """Error in a file of the project, such as a stack file or a declaration, with the file and the next step."""
