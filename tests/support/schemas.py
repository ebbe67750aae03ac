"""Kubernetes' own schemas in their strict form: the API server silently drops a field that it does not know, here it is an error."""

import json
import tomllib
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, cast

import kubernetes_validate
from jsonschema import Draft202012Validator
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT202012

from estate.pulumi.events import SECRET
from estate.pulumi.program import Registered
from estate.tools.build import HERE

VERSION = tomllib.loads((HERE / "tools.toml").read_text())["go"]["kubernetes"]["version"]
SCHEMAS = Path(kubernetes_validate.__file__).parent / "kubernetes-json-schema"


CUSTOM = {"Cluster"}
"""Kinds that an operator adds to Kubernetes: tests/tools/manifests/test_custom_resources.py validates them."""


def refused_of(resources: list[Registered]) -> dict[str, list[str]]:
    """Return the errors in the manifests that a program registers, by resource."""
    refused = {f"{resource.type} {resource.name}": problems(resource.inputs) for resource in manifests(resources)}
    return {name: found for name, found in refused.items() if found}


def manifests(resources: list[Registered]) -> list[Registered]:
    """Return the resources that are objects of Kubernetes' own kinds."""
    objects = [resource for resource in resources if {"apiVersion", "kind"} <= resource.inputs.keys()]
    return [resource for resource in objects if resource.inputs["kind"] not in CUSTOM]


def problems(manifest: Mapping[str, Any]) -> list[str]:
    """Return the unknown fields and invalid values of a manifest, each with its path."""
    return refused_by(built_in(manifest["apiVersion"], manifest["kind"]), manifest)


def refused_by(validator: Draft202012Validator, manifest: Mapping[str, Any]) -> list[str]:
    """Return the errors of a schema on a manifest, each with its path."""
    errors = validator.iter_errors(open_secrets(manifest))  # pyright: ignore[reportUnknownMemberType]
    return [f"{error.json_path}: {error.message[:300]}" for error in errors]


@cache
def built_in(api_version: str, kind: str) -> Draft202012Validator:
    """Return the schema of one of Kubernetes' own kinds, in the version that estate builds."""
    folder = SCHEMAS / f"v{VERSION.rpartition('.')[0]}.0-local-strict"
    group, _, version = api_version.rpartition("/")
    name = "-".join([kind.lower(), *filter(None, [group.partition(".")[0]]), version])
    schema = json.loads((folder / f"{name}.json").read_text())
    return Draft202012Validator(schema, registry=definitions(folder))


@cache
def definitions(folder: Path) -> Registry[Any]:
    """Return the registry of the definitions that the schemas of a folder refer to, by their own $id."""
    resource: Resource[Any] = DRAFT202012.create_resource(json.loads((folder / "_definitions.json").read_text()))
    return resource @ Registry[Any]()


def of_definition(definition: Mapping[str, Any], version: str) -> Draft202012Validator:
    """Return the schema of a kind that a CustomResourceDefinition adds."""
    (schema,) = [one["schema"]["openAPIV3Schema"] for one in definition["spec"]["versions"] if one["name"] == version]
    metadata = {"type": "object"}
    return Draft202012Validator(closed(schema | {"properties": schema["properties"] | {"metadata": metadata}}))


def closed(schema: Any) -> Any:
    """Return a schema that refuses every field that it does not name."""
    if isinstance(schema, list):
        return [closed(one) for one in cast("list[Any]", schema)]
    if not isinstance(schema, dict):
        return schema
    inner = {key: closed(value) for key, value in cast("dict[str, Any]", schema).items()}
    fields = isinstance(inner.get("properties"), dict) and inner.get("type") == "object"
    open_ended = inner.get("x-kubernetes-preserve-unknown-fields") or "additionalProperties" in inner
    return inner | {"additionalProperties": False} if fields and not open_ended else inner


def open_secrets(value: Any) -> Any:
    """Return a value without the marks that Pulumi puts around secrets."""
    if isinstance(value, list):
        return [open_secrets(one) for one in cast("list[Any]", value)]
    if not isinstance(value, dict):
        return value
    table = cast("dict[str, Any]", value)
    return open_secrets(table["value"]) if SECRET in table else {key: open_secrets(one) for key, one in table.items()}
