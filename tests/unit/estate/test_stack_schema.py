"""The schema of stack files: editors validate with it what the program validates with its model."""

import json
import re
import textwrap
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator

from estate.scaffold import stack_schema
from infra import mistakes
from infra.authority import authority, pem
from infra.settings.auth import HASH
from infra.settings.load import load_stack, parse
from infra.settings.stack import StackSettings
from infra.stack_file import PROJECT
from infra.stages import STAGES
from infra.values import ZEROS
from tests.support.minimum import MINIMUM
from tests.unit.infra.wrong_stack_files import HEAD, WRONG_VALUES

SCHEMA = json.loads(stack_schema.FILE.read_text())
COMMITTED = [PROJECT / "stacks" / f"Pulumi.{stage}.yaml" for stage in STAGES]
PAGES = [PROJECT / "README.md", *sorted((PROJECT / "docs").glob("*.md"))]


def is_taken(content: Any) -> bool:
    return Draft202012Validator(SCHEMA).is_valid(content)  # pyright: ignore[reportUnknownMemberType]


def whole(settings: Any) -> dict[str, Any]:
    """Return a stack file with these settings, and the minimum otherwise."""
    return {"config": {"estate:settings": {**MINIMUM, **settings}}}


def settings_of(block: str) -> dict[str, Any]:
    """Return the settings in a code block of a page: of a whole file, below estate:settings, or of a service's routes."""
    ca = textwrap.indent(pem(authority("the provider's")), " " * 10)
    block = re.sub(
        r" +-----BEGIN[^#]*?END CERTIFICATE-----\n| +-----BEGIN CERTIFICATE-----\n +…\n", lambda _: ca, block
    )
    found = yaml.safe_load(block.replace("sha256:…", ZEROS).replace("$argon2id$…", HASH))
    if isinstance(found, list):
        return {"service": {"routes": found}}
    return found["config"]["estate:settings"] if "config" in found else found


def blocks() -> list[tuple[str, str]]:
    """Return the YAML examples on the pages, with the pages' names."""
    return [
        (page.name, block)
        for page in PAGES
        for block in re.findall(r"^```yaml\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)
    ]


def test_the_schema_is_that_of_the_model() -> None:
    assert stack_schema.FILE.read_text() == stack_schema.text(), "estate docs stack-schema"
    Draft202012Validator.check_schema(SCHEMA)


@pytest.mark.parametrize("file", COMMITTED, ids=lambda file: file.name)
def test_a_committed_file_names_the_schema_and_is_taken(file: Path) -> None:
    first, *_ = file.read_text().splitlines()
    assert first == f"# yaml-language-server: $schema={stack_schema.FILE.name}"
    assert is_taken(yaml.safe_load(file.read_text()))
    load_stack(file)


def test_pages_have_examples() -> None:
    assert {"stacks.md", "clusters.md", "gateway.md", "alerts.md", "logs.md"} <= {page for page, _ in blocks()}


@pytest.mark.parametrize(("page", "block"), blocks())
def test_an_example_of_a_page_is_taken_by_the_schema_and_by_the_program(page: str, block: str) -> None:
    settings = settings_of(textwrap.dedent(block))
    parse(MINIMUM | settings, page)
    assert is_taken(whole(settings))


def test_what_pulumi_writes_itself_is_taken() -> None:
    content = yaml.safe_load(HEAD)
    content["config"]["estate:postgresPassword"] = {"secure": "v1:a"}
    assert is_taken(
        content | {"encryptionsalt": "v1:AAAB", "secretsprovider": "awskms://alias/x", "encryptedkey": "AAAB"}
    )


@pytest.mark.parametrize("key", StackSettings.model_fields)
def test_the_example_of_a_key_is_taken(key: str) -> None:
    assert is_taken(whole({key: mistakes.example(StackSettings.model_fields[key])}))


@pytest.mark.parametrize(
    "content",
    [
        {},
        [],
        None,
        "config",
        {"config": {}},
        {"config": {"settings": {}}},
        {"config": {"estate:settings": "a"}},
        whole({}) | {"confg": 1},
    ],
)
def test_what_is_no_stack_file_is_refused(content: Any) -> None:
    assert not is_taken(content)


def test_most_wrong_values_are_refused_by_the_schema_alone() -> None:
    wrong = [
        yaml.safe_load(str(one.content))
        for one in WRONG_VALUES
        if "Pulumi" not in one.says and "readers" not in one.says
    ]
    refused = [content for content in wrong if not is_taken(content)]
    assert len(refused) > 0.6 * len(wrong), f"{len(refused)} of {len(wrong)}"


def test_every_key_has_a_description() -> None:
    fields = [
        (name, key, field) for name, table in SCHEMA["$defs"].items() for key, field in table["properties"].items()
    ]
    assert [(name, key) for name, key, field in fields if not {"description", "$ref"} & field.keys()] == []
