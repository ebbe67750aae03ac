"""Markdown comments on pull requests and issues; each is edited in place."""

from pathlib import Path

from estate.core.console import say
from estate.core.paths import write_whole

LIMIT = 60_000
"""Maximum characters of a comment: GitHub accepts 65,536."""


def marked(about: str, *parts: str) -> str:
    """Return a comment with an invisible first line that identifies its subject, and so the comment that it replaces.

    A text that is too long for a comment is cut, with a note.
    """
    text = "\n\n".join([f"<!-- estate: {about} -->", *filter(None, parts)])
    if len(text) > LIMIT:
        text = f"{text[:LIMIT]}\n…\n```\n\nCut here: the rest is in what the job printed."
    return text + "\n"


def write(file: Path, comment: str) -> None:
    """Write a comment to a file, to be posted by a later step, and print it."""
    file.parent.mkdir(parents=True, exist_ok=True)
    write_whole(file, comment)
    say(comment)


def listed(title: str, entries: list[str]) -> str:
    """Return a list with a title; an empty text if there are no entries."""
    return "\n".join([f"**{title}**", "", *(f"- {entry}" for entry in entries)]) if entries else ""


def folded(title: str, entries: list[str]) -> str:
    """Return a collapsed list with a title; an empty text if there are no entries."""
    items = "\n".join(f"- {entry}" for entry in entries)
    return f"<details><summary>{title}</summary>\n\n{items}\n\n</details>" if entries else ""


def code(text: str) -> str:
    """Return a text as inline code, on one line."""
    line = " ".join(text.split()).replace("`", "'")
    return f"`{line}`"
