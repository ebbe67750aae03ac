"""Docstrings, comments and pages are in plain technical English: ruff checks the mood of summaries (D401), this test some words."""

import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

from estate.core.paths import PROJECT
from tests.support.copies import files_of_project

WORDS = re.compile(r"\b(anew|whom|somebody|nobody|mend(s|ed|ing)?|told|beside)\b", re.IGNORECASE)
"""Words with a plainer one: again, who, someone, repair, report or notify, next to."""
LEFT_OUT = ("CHANGELOG.md", "docs/licences.md", "tests/unit/test_wording.py")
CODE = re.compile(r"```.*?```|`[^`]*`", re.DOTALL)


def prose(file: Path) -> Iterator[tuple[int, str]]:
    """Yield the lines of a file that people read, with their numbers: of Python, docstrings and comments; of a page, all but code."""
    text = file.read_text()
    if file.suffix == ".md":
        plain = CODE.sub(lambda found: re.sub(r"[^\n]", " ", found[0]), text)
        yield from enumerate(plain.splitlines(), 1)
        return
    before = tokenize.NEWLINE
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        is_docstring = token.type == tokenize.STRING and before in (
            tokenize.NEWLINE,
            tokenize.INDENT,
            tokenize.DEDENT,
            tokenize.NL,
        )
        if token.type == tokenize.COMMENT or (is_docstring and token.string.startswith('"""')):
            plain = CODE.sub(lambda found: re.sub(r"[^\n]", " ", found[0]), token.string)
            yield from enumerate(plain.splitlines(), token.start[0])
        if token.type != tokenize.COMMENT:
            before = token.type


def test_no_word_has_to_be_decoded() -> None:
    found = [
        f"{path}:{number}: {match[0]}"
        for path in files_of_project()
        if path.endswith((".py", ".md")) and path not in LEFT_OUT
        for number, line in prose(PROJECT / path)
        for match in WORDS.finditer(line)
    ]
    assert found == []
