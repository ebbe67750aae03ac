"""What the commands tell a pull request or an issue: Markdown in one comment that is edited in place."""

from pathlib import Path

from toolchain.console import say

LIMIT = 60_000
"""Characters: GitHub takes 65,536 in a comment."""


def marked(about: str, *parts: str) -> str:
    """A comment: its first line, which nobody sees, says what it is about and so which comment it replaces.

    What is longer than a comment may be is cut, and says so.
    """
    text = "\n\n".join([f"<!-- estate: {about} -->", *filter(None, parts)])
    if len(text) > LIMIT:
        text = f"{text[:LIMIT]}\n…\n```\n\nCut here: the rest is in what the job printed."
    return text + "\n"


def write(file: Path, comment: str) -> None:
    """Leave a comment in a file for whoever posts it, and show it."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(comment)
    say(comment)


def listed(title: str, entries: list[str]) -> str:
    """A list with a title; nothing where it is empty."""
    return "\n".join([f"**{title}**", "", *(f"- {entry}" for entry in entries)]) if entries else ""


def folded(title: str, entries: list[str]) -> str:
    """A list that opens at a click; nothing where it is empty."""
    items = "\n".join(f"- {entry}" for entry in entries)
    return f"<details><summary>{title}</summary>\n\n{items}\n\n</details>" if entries else ""


def code(text: str) -> str:
    """A text as it is, on one line."""
    line = " ".join(text.split()).replace("`", "'")
    return f"`{line}`"
