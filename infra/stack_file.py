"""Read a stack file and the line of each key, as Pulumi does; refuse YAML that parsers interpret differently."""

import difflib
import re
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, cast

import yaml

from infra.errors import ProjectError

PROJECT = Path(__file__).resolve().parent.parent
Key = tuple[str | int, ...]
"""Path of a value: the keys and the indexes of lists that lead to it, from the top of the file."""
Lines = Mapping[Key, int]
NO_LINES: Lines = MappingProxyType({})
SETTINGS = ("config", "estate:settings")
EXAMPLE = "config: {estate:settings: {stage: dev, registry: registry.example.com/estate, api_server: {networks: [10.0.8.5/32]}}}"
SHOWN = re.compile(r"(?:(?:estate|pulumi|kubernetes):(?:config:)?)?[\w.-]{1,80}", re.ASCII)
DEEPEST = 16
"""Maximum nesting of tables and lists; that of settings is eight."""
MOST_ALIASES = 100
"""Maximum number of aliases: go-yaml refuses a file that consists of more of them for the most part."""
PRECISE_DIGITS = 15
"""Digits that Pulumi keeps of a number: its numbers are those of JSON in Go, binary64."""


class SettingsError(ProjectError):
    """Error for wrong settings of a stack, with the file and the next step."""


@dataclass(frozen=True)
class Mistake:
    """A mistake at one key."""

    key: Key
    reason: str
    example: str
    """Example of a correct value."""
    line: int | None = None
    """Line of the mistake, if the key itself does not lead to it."""


def refusal(source: str, lines: Lines, mistakes: Iterable[Mistake]) -> SettingsError:
    """Return the error that has a line for each mistake, in the order of the file.

    Args:
        source: name of the file.
        lines: lines of its keys; empty if it was not read here.
        mistakes: mistakes, at least one.
    """
    found = sorted({(found.line or line_of(found.key, lines), said(found)) for found in mistakes})
    has_lines = bool(lines) or any(mistake.line for mistake in mistakes)
    return SettingsError(
        "\n".join(f"{source}:{line}: {what}" if has_lines else f"{source}: {what}" for line, what in found)
    )


def said(mistake: Mistake) -> str:
    """Return the message for a mistake."""
    return f"{shown(mistake.key)}: {mistake.reason}, such as {mistake.example}"


def line_of(key: Key, lines: Lines) -> int:
    """Return the line of a key, or of the innermost table around it that the file has."""
    return next((lines[key[:end]] for end in range(len(key), -1, -1) if key[:end] in lines), 1)


def shown(key: Key) -> str:
    """Return a key as shown to a person, below estate:settings. Text that is no key is hidden: it may be a misplaced secret."""
    if not key:
        return "the file"
    below = (key[2:] or key[1:]) if key[:2] == SETTINGS else key
    return ".".join(str(part) if SHOWN.fullmatch(str(part)) else "a key" for part in below)


def read(file: Path) -> tuple[dict[str, Any], Lines]:
    """Return the configuration in a stack file, including the settings, and the line of each key of the file.

    Raises:
        SettingsError: the file cannot be read, is no YAML that all parsers interpret alike, or holds no settings.
    """
    source = source_of(file)
    text = decoded(file, source)
    reader = Reader(text)
    values = reader.read()
    mistakes = reader.mistakes or list(wrong_around_settings(values))
    if mistakes:
        raise refusal(source, reader.lines, mistakes)
    return values["config"], reader.lines


def source_of(file: Path) -> str:
    """Return the name of a file for errors: relative to the project, if it is in the project."""
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


PULUMIS = {
    "secretsprovider": "secretsprovider: awskms://alias/estate",
    "encryptedkey": "encryptedkey: AQICAHh…",
    "encryptionsalt": "encryptionsalt: v1:…",
    "environment": "environment: [estate/dev]",
}
"""Keys next to `config` (https://www.pulumi.com/docs/iac/concepts/projects/stack-settings-file/), with examples."""
SALT = re.compile(r"v1:[A-Za-z0-9+/]+=*:v1:[A-Za-z0-9+/]+=*:[A-Za-z0-9+/]+=*")
"""Pattern of a salt, with a ciphertext by which Pulumi recognizes a passphrase (pkg/secrets/passphrase/manager.go, v3)."""
CONTEXT = "kubernetes:context"
PROVIDERS = "pulumi:disable-default-providers"
NAMESPACED = re.compile(r"[^:\s]+:(?:config:)?[^:\s]+")


def wrong_around_settings(values: Any) -> Iterator[Mistake]:
    """Yield mistakes outside the settings themselves. A misspelled key is not also reported as missing."""
    if values is None:
        yield Mistake((), "holds nothing", EXAMPLE, 1)
    elif not isinstance(values, dict):
        yield Mistake((), "Pulumi refuses what is no table", EXAMPLE)
    else:
        table = cast("dict[str, Any]", values)
        unknown = table.keys() - {"config", *PULUMIS}
        for key in unknown:
            yield Mistake((key,), f"Pulumi ignores this key ({nearest(key, ['config', *PULUMIS])})", EXAMPLE)
        yield from wrong_pulumis(table)
        if "config" in table or not unknown:
            yield from wrong_config(table.get("config"))


def wrong_pulumis(table: Mapping[str, Any]) -> Iterator[Mistake]:
    """Yield mistakes in Pulumi's own keys: values that it refuses, or takes for others."""
    for key, right in PULUMIS.items():
        value = table.get(key, "-")
        if key == "environment":
            is_right = isinstance(value, dict) or (isinstance(value, list) and are_texts(cast("list[Any]", value)))
            if key in table and not is_right:
                yield Mistake((key,), "wants a list of names of environments, or a table", right)
        elif (
            key == "encryptionsalt" and key in table and isinstance(value, str) and value and not SALT.fullmatch(value)
        ):
            yield Mistake((key,), "is not what Pulumi has written", f"{right} as it is in the repository's history")
        elif not are_texts([value]):
            yield Mistake((key,), EMPTY if value in (None, "") else "wants a text", right)


EMPTY = "is left empty and wants a text"


def are_texts(values: Iterable[Any]) -> bool:
    """Return whether all values are texts of one line that are not empty."""
    return all(isinstance(value, str) and value.strip() and value.isprintable() for value in values)


def wrong_config(config: Any) -> Iterator[Mistake]:
    """Yield mistakes in the table `config`, except in the settings."""
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
    """Yield mistakes in keys of `config` that Pulumi would read differently than they are checked here, or fail at."""
    for key in config:
        if key.startswith(("estate:config:", "kubernetes:config:", "pulumi:config:")):
            short = key.replace(":config:", ":")
            yield Mistake(
                ("config", key), f"is Pulumi's other spelling of {short}, and would take its place", f"{short}: …"
            )
    providers = config.get(PROVIDERS, [])
    if not isinstance(providers, list) or not are_texts(cast("list[Any]", providers)):
        yield Mistake(("config", PROVIDERS), "wants a list of names", f"{PROVIDERS}: [kubernetes]")
    context = config.get(CONTEXT, "-")
    if not are_texts([context]):
        reason = EMPTY if context in (None, "") else "wants a text, the name of a context of your kubeconfig"
        yield Mistake(("config", CONTEXT), reason, f"{CONTEXT}: kind-estate")


def wrong_secrets(config: Mapping[str, Any], kept: Sequence[str], made: Sequence[str], stack: str) -> Iterator[Mistake]:
    """Yield mistakes in the estate's keys next to its settings, which are all secrets.

    Args:
        config: the table `config`.
        kept: names of the secrets that `estate secret set` stores.
        made: names of secrets that the user no longer supplies.
        stack: name of the stack.
    """
    names = {*kept, *made}
    for key, value in config.items():
        namespace, _, name = key.partition(":")
        if namespace != "estate" or key == SETTINGS[1]:
            continue
        near = name if name in kept else closest(name, kept) or "…"
        how = f"estate secret set {near} --stack {stack}, which stores it encrypted"
        if name not in names:
            why = f"is not known ({nearest(name, kept)}): wants to be taken out"
            yield Mistake(("config", key), why, how)
        elif not is_encrypted(value):
            why = "is a secret that everyone can read: wants to be taken out, and another value encrypted"
            yield Mistake(("config", key), why, how)


def is_encrypted(value: Any) -> bool:
    """Return whether a value of `config` is a secret as Pulumi writes it."""
    table = cast("dict[str, Any]", value) if isinstance(value, dict) else {}
    return table.keys() == {"secure"} and are_texts(table.values())


def closest(unknown: str, known: Iterable[str]) -> str | None:
    """Return the most similar known name, if one is similar."""
    return next(iter(difflib.get_close_matches(unknown, sorted(known), n=1)), None)


def nearest(unknown: str, known: Iterable[str]) -> str:
    """Return a question about the most similar known name, or a list of all of them if none is similar."""
    names = sorted(known)
    near = closest(unknown, names)
    return f"did you mean {near}?" if near else f"known are {', '.join(names)}"


class TooDeepError(Exception):
    """Error for tables and lists that are nested too deeply."""


TRUE_OR_FALSE = {word: word.lower() == "true" for word in ("true", "True", "TRUE", "false", "False", "FALSE")}
NULLS = ("", "~", "null", "Null", "NULL")
WHOLE = re.compile(r"[-+]?(?:0|[1-9][0-9]*)")
DECIMAL = re.compile(r"[-+]?(?:0|[1-9][0-9]*)\.[0-9]+")
NUMBER = re.compile(r"[-+]?(?:(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|0[xobXOB][0-9a-fA-F]+)")
HALF = re.compile("[\ud800-\udfff]")
"""Pattern of a surrogate."""
DATE = re.compile(r"[0-9]{4}-[0-9]{1,2}-[0-9]{1,2}(?:[Tt\s].*)?")
"""Pattern of dates in go-yaml, with which Pulumi reads, like those of numbers above; PyYAML's resolver knows the rest."""
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
    """Parser of the YAML that every parser interprets alike: tables, lists, texts, numbers, booleans and nulls."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.mistakes: list[Mistake] = []
        self.lines: dict[Key, int] = {}
        self.anchored: dict[str, Any] = {}
        self.aliases = 0
        self._starts = [found.end() for found in re.finditer(r"\r\n|\r|\n", text)]

    def read(self) -> Any:
        """Return the content of the text; if there are mistakes, the rest of it."""
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
        except (ValueError, OverflowError):  # raised at an escape that stands for no character
            self._not_yaml(self._line(self._yaml.index), "an escape that stands for no character")
        except TooDeepError:
            pass
        return None

    def _not_yaml(self, line: int, problem: str) -> None:
        """Record that the text is not YAML from a line on. Quoted words of the parser's message are hidden: they are from the file."""
        said = re.sub(r"'[^']{2,}'", "this", problem.partition("\n")[0])
        is_tab = re.match(r" *\t", self.text[[0, *self._starts][line - 1] :])
        reason = "a tab stands where spaces have to" if is_tab else f"this is not YAML, {said}"
        self.mistakes.append(Mistake((), f"readers of YAML refuse it: {reason}", EXAMPLE, line))

    def _line(self, index: int) -> int:
        """Return the line of a character, as editors count: PyYAML treats further separators as line ends."""
        return bisect_right(self._starts, index) + 1

    def _documents(self) -> Any:
        """Return the first document, the only one that Pulumi reads."""
        self._next()
        start = self._next()
        if isinstance(start, yaml.StreamEndEvent):
            return None
        if self.text.startswith("%", start.start_mark.index):
            self._mistake(
                (), start, "has a directive, which readers of YAML take differently: wants it taken out", EXAMPLE
            )
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
            self.aliases += 1
            if self.aliases == MOST_ALIASES + 1:
                reason = f"has more than {MOST_ALIASES} aliases, of which Pulumi refuses many: write the value here"
                self._mistake((), event, reason, "networks: [10.0.8.0/24]")
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
        """Return a text, number, boolean or None."""
        value: str = event.value
        if event.style is not None:
            written = self.text[event.start_mark.index : event.end_mark.index] if event.style == '"' else ""
            if "/" in re.findall(r"\\(.)", written, re.DOTALL):
                self._mistake(key, event, r"Pulumi refuses the escape \/", '"/" without the backslash')
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
        """Return the kind of an unquoted value that some parsers do not take for a text; None if all do."""
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
