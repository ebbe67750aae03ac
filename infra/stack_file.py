"""Read a stack file, and the line of each key, as Pulumi reads it; refuse what readers of YAML take differently."""

import difflib
import re
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, cast

import pulumi
import yaml

PROJECT = Path(__file__).resolve().parent.parent
Key = tuple[str | int, ...]
"""Path of a value: the keys and the indexes of lists that lead to it, from the top of the file."""
Lines = Mapping[Key, int]
NO_LINES: Lines = MappingProxyType({})
SETTINGS = ("config", "estate:settings")
EXAMPLE = "config: {estate:settings: {stage: dev, registry: registry.example.com/estate, api_server: {networks: [10.0.8.5/32]}}}"
SHOWN = re.compile(r"(?:(?:estate|pulumi):(?:config:)?)?[\w.-]{1,80}", re.ASCII)
DEEPEST = 16
"""Tables and lists within each other, of which settings have eight."""
PRECISE_DIGITS = 15
"""Pulumi's numbers are those of JSON in Go, binary64."""


class SettingsError(pulumi.RunError):
    """Wrong settings of a stack, with the file and the next step; Pulumi shows it without a traceback."""


@dataclass(frozen=True)
class Mistake:
    """A mistake at one key."""

    key: Key
    reason: str
    example: str
    """An example of what would be right."""
    line: int | None = None
    """The line, where the key itself does not lead to it."""


def refusal(source: str, lines: Lines, mistakes: Iterable[Mistake]) -> SettingsError:
    """Return the error that has a line for each mistake, in the order of the file.

    Args:
        source: name of the file.
        lines: where its keys are; none where it was not read here.
        mistakes: at least one.
    """
    found = sorted({(found.line or line_of(found.key, lines), said(found)) for found in mistakes})
    has_lines = bool(lines) or any(mistake.line for mistake in mistakes)
    return SettingsError(
        "\n".join(f"{source}:{line}: {what}" if has_lines else f"{source}: {what}" for line, what in found)
    )


def said(mistake: Mistake) -> str:
    """Return what a person reads of a mistake."""
    return f"{shown(mistake.key)}: {mistake.reason}, such as {mistake.example}"


def line_of(key: Key, lines: Lines) -> int:
    """Return the line of a key, or of the innermost table around it that the file has."""
    return next((lines[key[:end]] for end in range(len(key), -1, -1) if key[:end] in lines), 1)


def shown(key: Key) -> str:
    """Return a key as a person looks for it, below estate:settings; what is no key may be a secret in the wrong place."""
    if not key:
        return "the file"
    below = (key[2:] or key[1:]) if key[:2] == SETTINGS else key
    return ".".join(str(part) if SHOWN.fullmatch(str(part)) else "a key" for part in below)


def read(file: Path) -> tuple[dict[str, Any], Lines]:
    """Return the settings in a stack file, and the line of each key of the file.

    Raises:
        SettingsError: it cannot be read, is no YAML that all readers take alike, or holds no settings.
    """
    source = source_of(file)
    text = decoded(file, source)
    reader = Reader(text)
    values = reader.read()
    mistakes = reader.mistakes or list(wrong_around_settings(values))
    if mistakes:
        raise refusal(source, reader.lines, mistakes)
    return values["config"]["estate:settings"], reader.lines


def source_of(file: Path) -> str:
    """Return the name of a file for errors: within the project, from there."""
    return str(file.relative_to(PROJECT) if file.is_relative_to(PROJECT) else file)


def decoded(file: Path, source: str) -> str:
    """Return the text of a file.

    Raises:
        SettingsError: it cannot be read, or is not in UTF-8.
    """
    content, line = b"", 1
    try:
        if file.is_file() or not file.exists():
            content = file.read_bytes()
            return content.decode("utf-8-sig")
        reason = "is no regular file"  # reading a pipe would wait for its writer
    except OSError as error:
        reason = f"cannot be read ({error.strerror})"
    except UnicodeDecodeError as error:
        reason, line = "Pulumi refuses what is not in UTF-8", content.count(b"\n", 0, error.start) + 1
    raise refusal(source, NO_LINES, [Mistake((), reason, EXAMPLE, line)])


PULUMIS = ("secretsprovider", "encryptedkey", "encryptionsalt", "environment")
"""Keys next to `config` (https://www.pulumi.com/docs/iac/concepts/projects/stack-settings-file/)."""
PROVIDERS = "pulumi:disable-default-providers"
NAMESPACED = re.compile(r"[^:\s]+:(?:config:)?[^:\s]+")


def wrong_around_settings(values: Any) -> Iterator[Mistake]:
    """Yield what is wrong outside the settings themselves; of a key that is misspelled not that it is missing, too."""
    if values is None:
        yield Mistake((), "holds nothing", EXAMPLE, 1)
    elif not isinstance(values, dict):
        yield Mistake((), "Pulumi refuses what is no table", EXAMPLE)
    else:
        table = cast("dict[str, Any]", values)
        unknown = table.keys() - {"config", *PULUMIS}
        for key in unknown:
            yield Mistake((key,), f"Pulumi ignores this key ({nearest(key, ['config', *PULUMIS])})", EXAMPLE)
        if "config" in table or not unknown:
            yield from wrong_config(table.get("config"))


def wrong_config(config: Any) -> Iterator[Mistake]:
    """Yield what is wrong about the table `config`, but for the settings in it."""
    if config is None:
        yield Mistake(("config",), "is missing, and with it the settings", EXAMPLE)
    elif not isinstance(config, dict):
        yield Mistake(("config",), "Pulumi refuses what is no table", EXAMPLE)
    else:
        table = cast("dict[str, Any]", config)
        odd = [key for key in table if not NAMESPACED.fullmatch(key)]
        for key in odd:
            question = nearest(key, [SETTINGS[1], PROVIDERS])
            yield Mistake(("config", key), f"wants namespace:name as its key ({question})", EXAMPLE)
        yield from misread(table)
        if "estate:settings" not in table and not odd:
            yield Mistake(SETTINGS, "is missing: wants a table, in which the settings are", EXAMPLE)
        elif not isinstance(table.get("estate:settings", {}), dict):
            yield Mistake(SETTINGS, "wants a table, in which the settings are", EXAMPLE)


def misread(config: Mapping[str, Any]) -> Iterator[Mistake]:
    """Yield the keys of `config` that Pulumi would read otherwise than it is checked here, or fail at."""
    for key in config:
        if key.startswith("estate:config:"):
            short = key.replace(":config:", ":")
            yield Mistake(
                ("config", key), f"is Pulumi's other spelling of {short}, and would take its place", f"{short}: …"
            )
    providers = config.get(PROVIDERS, [])
    if not isinstance(providers, list) or not all(isinstance(name, str) for name in cast("list[Any]", providers)):
        yield Mistake(("config", PROVIDERS), "wants a list of names", f"{PROVIDERS}: [kubernetes]")


def closest(unknown: str, known: Iterable[str]) -> str | None:
    """Return the known name that is nearest, if any is near."""
    return next(iter(difflib.get_close_matches(unknown, sorted(known), n=1)), None)


def nearest(unknown: str, known: Iterable[str]) -> str:
    """Return a question for the nearest known name, or all of them where none is near."""
    names = sorted(known)
    near = closest(unknown, names)
    return f"did you mean {near}?" if near else f"known are {', '.join(names)}"


class TooDeepError(Exception):
    """Tables within tables, more than there can be."""


TRUE_OR_FALSE = {word: word.lower() == "true" for word in ("true", "True", "TRUE", "false", "False", "FALSE")}
NULLS = ("", "~", "null", "Null", "NULL")
WHOLE = re.compile(r"[-+]?(?:0|[1-9][0-9]*)")
DECIMAL = re.compile(r"[-+]?(?:0|[1-9][0-9]*)\.[0-9]+")
NUMBER = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?(?:[eE][-+]?[0-9]+)?|0[xob][0-9a-fA-F]+)")
HALF = re.compile("[\ud800-\udfff]")
"""A surrogate."""
DATE = re.compile(r"[0-9]{4}-[0-9]{1,2}-[0-9]{1,2}(?:[Tt\s].*)?")
"""Numbers and dates of go-yaml, with which Pulumi reads; the rest is known to PyYAML's resolver."""
DIFFERENT = {
    "bool": ("some readers of YAML take this for true or false, Pulumi for a text", "true, or the text in quotes"),
    "date": ("readers of YAML take this for a date", 'the text in quotes, "2026-01-31"'),
    "finite": ("Pulumi refuses a number that is not finite", "0.5"),
    "number": (
        "readers of YAML take this for different numbers, or for a text",
        'digits, 0.5, or the text in quotes, "0x1f"',
    ),
    "large": ("Pulumi keeps 15 digits of a number", "a smaller number, or the text in quotes"),
    "other": ("readers of YAML take this for different things", 'the text in quotes, "="'),
}


class Reader:
    """Makes values of YAML: tables, lists, texts, numbers, booleans and nothing, which every reader of YAML takes alike."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.mistakes: list[Mistake] = []
        self.lines: dict[Key, int] = {}
        self.anchored: dict[str, Any] = {}
        self._starts = [found.end() for found in re.finditer(r"\r\n|\r|\n", text)]

    def read(self) -> Any:
        """Return what the text holds; where there are mistakes, what is left of it."""
        try:
            self._yaml: Any = yaml.SafeLoader(self.text)
        except yaml.reader.ReaderError as error:
            line = self._line(error.position)
            self.mistakes.append(Mistake((), "Pulumi refuses control characters", EXAMPLE, line))
            return None
        try:
            return self._documents()
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            self._not_yaml(self._line(mark.index if mark else 0), error.problem or "")
        except (ValueError, OverflowError):  # by an escape in a text that stands for no character
            self._not_yaml(self._line(self._yaml.index), "an escape that stands for no character")
        except TooDeepError:
            pass
        return None

    def _not_yaml(self, line: int, problem: str) -> None:
        """Note that the text is not YAML from a line on; the parser's words hold names of the file's own in quotes."""
        said = re.sub(r"'[^']{2,}'", "this", problem.partition("\n")[0])
        is_tab = re.match(r" *\t", self.text[[0, *self._starts][line - 1] :])
        reason = "a tab stands where spaces have to" if is_tab else f"this is not YAML, {said}"
        self.mistakes.append(Mistake((), f"Pulumi refuses it: {reason}", EXAMPLE, line))

    def _line(self, index: int) -> int:
        """Return the line of a character, as editors count: PyYAML takes other separators for ends of lines too."""
        return bisect_right(self._starts, index) + 1

    def _documents(self) -> Any:
        """Return the first document, the only one that Pulumi reads."""
        self._next()
        if isinstance(self._next(), yaml.StreamEndEvent):
            return None
        first = self._value(self._next(), ())
        self._next()
        if not isinstance(start := self._next(), yaml.StreamEndEvent):
            self._mistake((), start, "Pulumi ignores all after the first document, which ends here", EXAMPLE)
        return first

    def _next(self) -> Any:
        return self._yaml.get_event()

    def _mistake(self, key: Key, event: Any, reason: str, example: str) -> None:
        self.mistakes.append(Mistake(key, reason, example, self._line(event.start_mark.index)))

    def _value(self, event: Any, key: Key) -> Any:
        """Return the value that begins with an event."""
        self.lines.setdefault(key, self._line(event.start_mark.index))
        if isinstance(event, yaml.AliasEvent):
            if event.anchor not in self.anchored:
                self._mistake(
                    key, event, "is an alias of nothing before it: write the value here", "networks: [10.0.8.0/24]"
                )
            return self.anchored.get(event.anchor)
        if event.tag:
            self._mistake(key, event, "has a tag, which Pulumi ignores: take it out, and put a text in quotes", '"5"')
            event.tag = None
        if len(key) > DEEPEST:
            self._mistake(key[:3], event, f"has more than {DEEPEST} tables and lists within each other", EXAMPLE)
            raise TooDeepError
        value = (
            self._list(key) if isinstance(event, yaml.SequenceStartEvent)
            else self._table(key) if isinstance(event, yaml.MappingStartEvent)
            else self._scalar(event, key)
        )  # fmt: skip
        if event.anchor:
            self.anchored[event.anchor] = value
        return value

    def _list(self, key: Key) -> list[Any]:
        items: list[Any] = []
        while not isinstance(event := self._next(), yaml.SequenceEndEvent):
            items.append(self._value(event, (*key, len(items))))
        return items

    def _table(self, key: Key) -> dict[str, Any]:
        table: dict[str, Any] = {}
        while not isinstance(event := self._next(), yaml.MappingEndEvent):
            name = self._name(event, key)
            if name in table:
                before = self.lines[(*key, name)]
                self._mistake(
                    (*key, name), event, f"Pulumi refuses a key twice: it is in line {before} too", "one of the two"
                )
            self.lines.setdefault((*key, name), self._line(event.start_mark.index))
            table[name] = self._value(self._next(), (*key, name))
        return table

    def _name(self, event: Any, key: Key) -> str:
        """Return the key that an event begins."""
        line = self._line(event.start_mark.index)
        if not isinstance(event, yaml.ScalarEvent):
            self._value(event, (*key, "?"))
            value = None
        elif event.value == "<<" and event.implicit[0]:
            self._mistake(key, event, "has a merge key: write the values here too", "networks: [10.0.8.0/24]")
            return "<<"
        else:
            value = self._scalar(event, key)
        if not isinstance(value, str) or event.tag:
            self.mistakes.append(Mistake(key, "has a key that is no text", '"1": in quotes', line))
        return value if isinstance(value, str) else f"a key in line {line}"

    def _scalar(self, event: Any, key: Key) -> Any:
        """Return a text, number, boolean or nothing."""
        value: str = event.value
        if event.style is not None:
            if HALF.search(value):
                self._mistake(key, event, "Pulumi refuses an escape for half a character", r'"\U0001F600"')
            return value
        if value in NULLS:
            return None
        if value in TRUE_OR_FALSE:
            return TRUE_OR_FALSE[value]
        if sum(map(str.isdigit, value)) <= PRECISE_DIGITS:
            if WHOLE.fullmatch(value):
                return int(value)
            if DECIMAL.fullmatch(value):
                return int(number) if (number := float(value)).is_integer() else number
        if kind := self._ambiguous(value):
            self._mistake(key, event, *DIFFERENT[kind])
        return value

    def _ambiguous(self, value: str) -> str | None:
        """Return the kind of a value without quotes that readers do not all take for a text."""
        resolved: str = self._yaml.resolve(yaml.ScalarNode, value, (True, False))
        tag = resolved.rpartition(":")[2]
        if tag == "bool":
            return "bool"
        if tag == "timestamp" or DATE.fullmatch(value):
            return "date"
        if re.fullmatch(r"[-+]?\.(?:inf|nan)", value.lower()):
            return "finite"
        if WHOLE.fullmatch(value) or DECIMAL.fullmatch(value):
            return "large"
        if tag in ("int", "float") or NUMBER.fullmatch(value.replace("_", "")):
            return "number"
        return None if tag == "str" else "other"
