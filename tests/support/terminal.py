"""A terminal in the place of standard input."""

import io


class Terminal(io.StringIO):
    """A terminal with a user who types one line.

    Args:
        line: the line.
    """

    def __init__(self, line: str) -> None:
        super().__init__(f"{line}\n")

    def isatty(self) -> bool:
        return True
