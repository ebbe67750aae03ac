"""`estate docs stack-schema`: write stacks/stack.schema.json, with which editors complete and validate stack files, from the model of the settings."""

import json
from typing import Any, cast

from estate.core.console import say
from estate.core.paths import PROJECT
from infra import mistakes
from infra.settings.stack import StackSettings
from infra.stack_file import PULUMIS
from infra.stages import EVERY_STAGE, STAGES, Values

FILE = PROJECT / "stacks" / "stack.schema.json"
DIALECT = "https://json-schema.org/draft/2020-12/schema"


def schema() -> dict[str, Any]:
    """Return the schema of a stack file."""
    settings = StackSettings.model_json_schema(ref_template="#/$defs/{model}")
    tables: dict[str, Any] = settings.pop("$defs") | {"StackSettings": settings}
    for table in tables.values():
        forget_defaults(table)
    for stage in (EVERY_STAGE, *STAGES.values()):
        make_optional(StackSettings, stage, tables)
    config = {
        "type": "object",
        "description": "Configuration of Pulumi, by namespace:name; secrets are tables with the key secure.",
        "properties": {"estate:settings": {"$ref": "#/$defs/StackSettings"}},
        "patternProperties": {"^[^:]+:.+$": True},
        "additionalProperties": False,
        "required": ["estate:settings"],
    }
    pulumis = {key: {"description": "Pulumi's own key."} for key in PULUMIS}
    return {
        "$schema": DIALECT,
        "title": "Stack file of the estate",
        "type": "object",
        "properties": {"config": config, **pulumis},
        "additionalProperties": False,
        "required": ["config"],
        "$defs": dict(sorted(tables.items())),
    }


def forget_defaults(table: dict[str, Any]) -> None:
    """Remove defaults that are tables, whose keys have their own, and defaults of versions, which change independently."""
    for field in table["properties"].values():
        if isinstance(field.get("default"), dict) or "@" in str(field.get("pattern")):
            field.pop("default", None)


def make_optional(kind: Any, defaults: Values, tables: dict[str, Any]) -> None:
    """Make the keys optional for which a stage has a default, in nested tables too.

    Args:
        kind: the type of the table.
        defaults: the stage's defaults for the table.
        tables: the tables of the schema, by the names of their types.
    """
    known = mistakes.fields(kind)
    table = tables.get(getattr(mistakes.bare(kind), "__name__", ""), {})
    if required := [key for key in table.pop("required", ()) if key not in defaults]:
        table["required"] = required
    for key, value in defaults.items():
        if isinstance(value, dict):
            below = mistakes.at((key,), mistakes.bare(kind)) if known else mistakes.bare(kind)
            make_optional(below, cast("Values", value), tables)


def text() -> str:
    """Return the text of the schema file."""
    return json.dumps(schema(), indent=2, ensure_ascii=False) + "\n"


def write() -> None:
    """Write the schema."""
    FILE.write_text(text(), encoding="utf-8")
    say(str(FILE.relative_to(PROJECT)))
