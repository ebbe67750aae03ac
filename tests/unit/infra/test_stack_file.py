"""Stack files: every mistake is reported in one line, and nothing else is raised."""

import json
import os
import re
from pathlib import Path
from typing import Annotated, Any, cast, get_args, get_origin

import pulumi
import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import TypeAdapter
from pydantic.fields import FieldInfo

from estate.core.console import EstateError
from estate.stack import model
from infra import mistakes
from infra.services import SERVICES, Service
from infra.settings.load import load_stack, parse
from infra.settings.running import load_settings, reported
from infra.settings.stack import StackSettings
from infra.stack_file import PROJECT, SETTINGS, Key, SettingsError, read
from infra.stages import STAGES
from tests.support.declarations import declare
from tests.support.minimum import MINIMUM
from tests.unit.infra.wrong_stack_files import HEAD, WRONG, WRONG_VALUES, Wrong

WITHOUT_INGRESS = "".join(HEAD.splitlines(keepends=True)[:6])
MANAGED_CA: Key = ("postgres", "managed", "ca")
COMMITTED = [PROJECT / "stacks" / f"Pulumi.{stage}.yaml" for stage in STAGES]
LINE = re.compile(
    r"(?P<file>/[^\n]+/stacks/Pulumi\.x\.yaml):(?P<line>[1-9]\d*): (?P<key>the file|(?:[\w.:-]|a key)+): (?P<reason>\S.*), such as \S.*"
)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "stacks").mkdir()
    return tmp_path / "stacks" / "Pulumi.x.yaml"


def refused(file: Path) -> list[re.Match[str]]:
    """Return each line of the error about a wrong file; all have the same form."""
    with pytest.raises(SettingsError) as error:
        load_stack(file)
    lines = [LINE.fullmatch(line) for line in str(error.value).split("\n")]
    assert None not in lines, str(error.value)
    return [line for line in lines if line]


def test_the_lines_that_wrong_ones_are_made_of_are_right(file: Path) -> None:
    file.write_text(HEAD)
    assert load_stack(file).stage == "local"


@pytest.mark.parametrize("wrong", WRONG, ids=str)
def test_a_mistake_is_one_line_with_where_why_and_what_is_right(file: Path, wrong: Wrong) -> None:
    file.write_bytes(wrong.content.encode() if isinstance(wrong.content, str) else wrong.content)
    (line,) = refused(file)
    assert (line["file"], int(line["line"]), line["key"]) == (str(file), wrong.line, wrong.key)
    assert wrong.says in line["reason"]
    assert "hunter2" not in line[0]


def test_there_is_a_wrong_file_for_every_table_of_settings() -> None:
    assert {one.key.split(".")[0] for one in WRONG} >= set(StackSettings.model_fields)


def test_several_mistakes_are_a_line_each_in_the_order_of_the_file(file: Path) -> None:
    file.write_text(
        WITHOUT_INGRESS + "    ingress:\n      port: 0\n      hots: a\n    storage: {consul: 1MB, backups: 1GB}\n"
    )
    assert [(int(line["line"]), line["key"]) for line in refused(file)] == [
        (8, "ingress.port"), (9, "ingress.hots"), (10, "storage.backups"), (10, "storage.consul"),
    ]  # fmt: skip


def test_what_services_inherit_is_said_once_and_what_they_say_themselves_too(file: Path) -> None:
    file.write_text(
        HEAD + "    service: {replicas: 0}\n    services:\n      user-service: {}\n      api-gateway: {replicas: 0}\n"
    )
    assert [line["key"] for line in refused(file)] == ["service.replicas", "services.api-gateway.replicas"]


def test_what_is_wrong_with_settings_and_with_secrets_is_said_together(file: Path) -> None:
    file.write_text(HEAD + "    build: 5\n    receivers: [{name: a, kind: webhook}]\n  estate:receiver-a: hunter2\n")
    assert [line["key"] for line in refused(file)] == ["build", "config.estate:receiver-a"]
    assert "estate secret set receiver-a --stack x" in refused(file)[1][0]


def test_one_prefix_is_of_one_service(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    orders = Service("orders", needs=(), prefixes=("/api/v1/orders",))
    declare(monkeypatch, *SERVICES, orders)
    file.write_text(HEAD + "    services: {user-service: {routes: [{prefix: /a}, {prefix: /api/v1/orders}]}}\n")
    (line,) = refused(file)
    assert line["key"] == "services.user-service.routes.1.prefix"
    assert line["reason"] == "is that of orders already"
    file.write_text(HEAD + "    service: {routes: [{prefix: /a}]}\n")
    (line,) = refused(file)
    assert line["key"] == "service.routes.0.prefix"


def test_a_file_that_cannot_be_read_is_one_line(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "cannot be read (No such file or directory)" in refused(file)[0]["reason"]
    file.symlink_to(tmp_path / "nothing")
    assert "cannot be read (No such file or directory)" in refused(file)[0]["reason"]
    file.unlink()
    file.symlink_to(file)
    assert "cannot be read" in refused(file)[0]["reason"]
    file.unlink()
    file.mkdir()
    assert "is no regular file" in refused(file)[0]["reason"]
    file.rmdir()
    os.mkfifo(file)
    assert "is no regular file" in refused(file)[0]["reason"]
    file.unlink()
    file.write_text(HEAD)

    def denied(_: Path) -> bytes:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "read_bytes", denied)
    assert "cannot be read (Permission denied)" in refused(file)[0]["reason"]


@pytest.mark.parametrize(
    "content",
    [
        b"\xef\xbb\xbf" + HEAD.encode(),
        HEAD.replace("\n", "\r\n").encode(),
        b"---\n" + HEAD.encode() + b"...\n",
        WITHOUT_INGRESS.encode() + b"    kubelets: &a {networks: &n [10.0.0.0/8]}\n    ingress: {trusted: *n}\n",
        HEAD.encode() + b"    service: {replicas: 3.0, requests: {cpu: 0.25}, limits: {cpu: 1}}\n",
        HEAD.encode() + b"    jwks:\n    kubelets: ~\n",
        HEAD.encode() + b"encryptionsalt: v1:fpjCWgNy9k4=:v1:jOA2vMGTFMg7tVM8:GEYQ6HXjYMN4EmX0rvKEVjdVwzKS7w==\n",
        HEAD.encode() + b"environment: [estate/dev]\n",
        HEAD.encode() + b"environment: {imports: [dev]}\n",
        HEAD.encode() + b"  kubernetes:context: kind-estate\n  other:thing: 1\n",
        HEAD.encode() + b"  estate:postgresPassword: {secure: v1:a}\n  estate:nextTokenKey: {secure: v1:a}\n",
        HEAD.encode() + b"    receivers: [{name: a, kind: webhook}]\n  estate:receiver-a: {secure: v1:a}\n",
        WITHOUT_INGRESS.encode() + b"    ingress: {namespace: a, host: localhost, consoles: false}\n",
    ],
)
def test_what_pulumi_reads_well_is_taken(file: Path, content: bytes) -> None:
    file.write_bytes(content)
    load_stack(file)


def of_pulumi(settings: str, stack: str, monkeypatch: pytest.MonkeyPatch) -> StackSettings:
    """Return the settings as the program gets them from Pulumi: as text."""

    def found(*_: object) -> str:
        return settings

    monkeypatch.setattr(pulumi, "get_stack", lambda: stack)
    monkeypatch.setattr(pulumi.Config, "_get", found)
    return load_settings()


def as_pulumi_has(content: str, monkeypatch: pytest.MonkeyPatch, stack: str = "x") -> StackSettings:
    """Return the settings of a file as the program gets them from Pulumi."""
    return of_pulumi(json.dumps(yaml.safe_load(content)["config"]["estate:settings"], default=str), stack, monkeypatch)


def with_example(settings: Any, key: str, shown: str) -> Any:
    """Return settings with the example value of an error in place of the refused one."""
    *tables, last = key.split(".")
    place: Any = settings
    for part in tables:
        place = place[int(part)] if part.isdecimal() else place.setdefault(part, {})
    if last.isdecimal():
        place[int(last)] = yaml.safe_load(shown)
    else:
        place.pop(last, None)
        place |= yaml.safe_load(f"{{{shown}}}")
    return settings


@pytest.mark.parametrize("wrong", [one for one in WRONG_VALUES if "Pulumi" not in one.says], ids=str)
def test_the_value_that_is_shown_is_right_where_it_is_asked_for(file: Path, wrong: Wrong) -> None:
    file.write_text(str(wrong.content))
    (line,) = refused(file)
    shown = line[0].rpartition(", such as ")[2]
    if (
        "a key" in wrong.key
        or " alone" in shown
        or "is given" in wrong.says
        or "CERTIFICATE" in shown
        or "readers" in wrong.says
        or "different" in wrong.says
    ):
        pytest.skip("no value to put there")
    settings = yaml.safe_load(str(wrong.content))["config"]["estate:settings"]
    try:
        parse(with_example(settings, wrong.key, shown), "here")
    except SettingsError as error:
        assert f"here: {wrong.key}: " not in str(error)  # noqa: PT017 - another key may be wrong now


@pytest.mark.parametrize("wrong", [one for one in WRONG_VALUES if "Pulumi" not in one.says], ids=str)
def test_the_program_refuses_a_value_for_the_reason_that_the_file_is_refused(
    wrong: Wrong, monkeypatch: pytest.MonkeyPatch
) -> None:
    if "readers" in wrong.says or "different" in wrong.says:
        pytest.skip("which value it is depends on the reader")
    with pytest.raises(SettingsError) as error:
        as_pulumi_has(str(wrong.content), monkeypatch)
    assert str(error.value).startswith(f"stacks/Pulumi.x.yaml: {wrong.key}: ")
    assert wrong.says in str(error.value)
    assert "\n" not in str(error.value)


def test_a_text_in_the_place_of_settings_is_refused_unseen_by_the_program(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SettingsError, match=r"stacks/Pulumi\.x\.yaml: estate:settings: is missing") as error:
        of_pulumi("hunter2", "x", monkeypatch)
    assert "hunter2" not in str(error.value)


def test_wrong_settings_end_the_program_without_a_traceback() -> None:
    with pytest.raises(pulumi.RunError, match=r"^it is so$"), reported():
        raise SettingsError("it is so")


@pytest.mark.parametrize("name", ["IAC", "a.b", "local dev", "", "-a", "a-", "../local", "a" * 52, "ä", "local\n"])
def test_a_stack_whose_namespace_could_not_be_is_refused_by_every_command_and_the_program(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(EstateError, match="is no name of a stack: it wants 1 to 51 lower-case letters, digits and -"):
        model.load(name)
    with pytest.raises(SettingsError, match="wants 1 to 51 lower-case letters"):
        as_pulumi_has(HEAD, monkeypatch, name)


def keys_of(kind: Any, key: Key = ()) -> dict[Key, FieldInfo]:
    """Return every key of settings with its field; one item stands for a list, and for a table by names."""
    found: dict[Key, FieldInfo] = {}
    for name, field in mistakes.fields(kind).items():
        found[*key, name] = field
        inner = mistakes.bare(field)
        item = {list: 0, dict: "user-service"}.get(get_origin(inner))
        found |= keys_of(inner, (*key, name)) if item is None else keys_of(get_args(inner)[-1], (*key, name, item))
    return found


KEYS = keys_of(StackSettings)


@pytest.mark.parametrize("key", KEYS.keys() - {("service",), ("services",), MANAGED_CA, MANAGED_CA[:-1]}, ids=str)
def test_the_example_of_every_key_is_right(key: Key) -> None:
    field = KEYS[key]
    kind: Any = cast("Any", Annotated)[field.annotation, field]
    TypeAdapter[Any](kind).validate_python(mistakes.example(field), strict=True)


@pytest.mark.parametrize("key", KEYS, ids=str)
def test_an_example_is_one_line_of_yaml(key: Key) -> None:
    shown = mistakes.assigned(key, StackSettings)
    assert yaml.safe_load(f"{{{shown}}}") == {key[-1]: mistakes.example(KEYS[key])}
    assert "\n" not in shown


def nested(key: Key, value: Any) -> dict[str, Any]:
    """Return settings that have a value at a key, and the minimum otherwise."""
    first, *below = key
    for part in reversed(below):
        value = [value] if isinstance(part, int) else {part: value}
    return {**MINIMUM, str(first): value}


BROKEN = [
    "", "\t", "on", "0x1", ": ", "- ", "[", "}", "'", '"', "&a ", "*a", "!!x ", "<<: ", "---\n", "\0", "\u2028", "9" * 30, "#", "null", "~", "{a: 1}",
]  # fmt: skip


@given(
    committed=st.sampled_from(COMMITTED),
    changes=st.lists(
        st.tuples(st.integers(0, 700), st.integers(0, 12), st.sampled_from(BROKEN) | st.text(max_size=4)),
        min_size=1,
        max_size=3,
    ),
)
def test_a_file_with_any_change_loads_or_is_refused_in_lines_of_one_form(
    committed: Path, changes: list[tuple[int, int, str]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    text = committed.read_text()
    for at, length, new in changes:
        text = text[:at] + new + text[at + length :]
    loads_or_is_refused(text.encode("utf-8", "surrogatepass"), tmp_path_factory)


def loads_or_is_refused(content: bytes, folders: pytest.TempPathFactory) -> None:
    folder = folders.getbasetemp() / "stacks"
    folder.mkdir(exist_ok=True)
    file = folder / "Pulumi.x.yaml"
    file.write_bytes(content)
    try:
        load_stack(file)
    except SettingsError as error:
        lines = str(error).split("\n")
        assert len(set(lines)) == len(lines)
        for line in lines:
            found = LINE.fullmatch(line)
            assert found, line
            assert int(found["line"]) <= content.count(b"\n") + content.count(b"\r") + 1


# Pulumi's JSON has 3 for 3.0, and neither NaN nor infinity.
FRACTIONS = st.floats(allow_nan=False, allow_infinity=False).filter(lambda number: not number.is_integer())
JSONS = st.recursive(
    st.none() | st.booleans() | st.integers() | FRACTIONS | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


@given(key=st.sampled_from(list(KEYS)), value=JSONS)
@example(key=("services",), value={"user-service": None})
@example(key=("service",), value=None)
@example(key=("ingress",), value={"\ud800": 1})
def test_any_value_anywhere_loads_or_is_refused_alike_by_the_file_and_the_program(
    key: Key, value: Any, tmp_path_factory: pytest.TempPathFactory
) -> None:
    settings = nested(key, value)
    try:
        parse(settings, "here")
        by_program = []
    except SettingsError as error:
        by_program = [line.removeprefix("here: ") for line in str(error).split("\n")]
    folder = tmp_path_factory.getbasetemp() / "stacks"
    folder.mkdir(exist_ok=True)
    file = folder / "Pulumi.x.yaml"
    # JSON is YAML; a file that Pulumi itself refuses reaches no program.
    content = json.dumps({"config": {"estate:settings": settings}}, ensure_ascii=False)
    file.write_bytes(content.encode("utf-8", "surrogatepass"))
    try:
        load_stack(file)
        by_file = []
    except SettingsError as error:
        by_file = [line.partition(": ")[2] for line in str(error).split("\n")]
    if not any("Pulumi" in line or "readers" in line or "not YAML" in line for line in by_file):
        assert sorted(by_file) == sorted(by_program)


def test_the_lines_of_keys_are_those_of_the_file(file: Path) -> None:
    file.write_text(HEAD)
    _, lines = read(file)
    assert {key[-1]: line for key, line in lines.items() if key[:-1] == SETTINGS} == {
        "stage": 4,
        "registry": 5,
        "api_server": 6,
        "ingress": 7,
    }
