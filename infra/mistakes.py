"""Say what pydantic finds wrong about settings, in the words of a person who writes a stack file, with an example of what is right."""

import math
from collections.abc import Mapping
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, cast, get_args, get_origin

import yaml
from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from infra.stack_file import SETTINGS, Key, Mistake, closest, nearest


class ContradictionError(ValueError):
    """Values each of which would be right without another, for a validator of a table.

    Args:
        found: which keys below the table, the reason, and what would be right; None: the example of the key.
    """

    def __init__(self, *found: tuple[Key, str, str | None]) -> None:
        super().__init__("; ".join(reason for _, reason, _ in found))
        self.found = found


def mistakes_of(error: ValidationError, model: type[BaseModel], written: Mapping[str, Any]) -> list[Mistake]:
    """Return what is wrong, once: not again for each service that inherits it from `service`.

    Args:
        error: of the validation.
        model: of the settings.
        written: the settings without the defaults of a stage.
    """
    problems = cast("list[dict[str, Any]]", error.errors(include_url=False))
    found = [mistake for problem in problems for mistake in described(problem, model)]
    own = {(mistake.key[2:], mistake.reason) for mistake in found}
    return [m for m in found if not (is_inherited(m.key[2:], written) and (("service", *m.key[4:]), m.reason) in own)]


def is_inherited(key: Key, written: Any) -> bool:
    """Return whether a key of one of `services` is not written there."""
    for part in key if key[:1] == ("services",) else ():
        if not isinstance(written, dict) or part not in written:
            return True
        written = cast("dict[str | int, Any]", written)[part]
    return False


def described(problem: dict[str, Any], model: type[BaseModel]) -> list[Mistake]:
    """Return the mistakes that one problem of pydantic's is."""
    key: Key = tuple(part for part in problem["loc"] if part != "[key]")
    cause = problem.get("ctx", {}).get("error")
    if isinstance(cause, ContradictionError):
        return [
            Mistake((*SETTINGS, *key, *below), why, right or assigned((*key, *below), model))
            for below, why, right in cause.found
        ]
    if "[key]" in problem["loc"]:
        names, _ = get_args(bare(at(key[:-1], model)))
        return [Mistake((*SETTINGS, *key), reason(problem), assigned((*key[:-1], example(names)), model))]
    if problem["type"] == "extra_forbidden":
        known = fields(at(key[:-1], model))
        name = closest(str(key[-1]), known) or next(iter(known))
        wrong = f"is not known ({nearest(str(key[-1]), known)})"
        return [Mistake((*SETTINGS, *key), wrong, assigned((*key[:-1], name), model))]
    return [Mistake((*SETTINGS, *key), reason(problem), assigned(key, model))]


REASONS = {
    "missing": "is missing",
    "string_type": "wants a text",
    "string_unicode": "wants a text of whole characters",
    "int_type": "wants a whole number",
    "float_type": "wants a number",
    "bool_type": "wants true or false",
    "list_type": "wants a list",
    "dict_type": "wants a table",
    "model_type": "wants a table",
    "too_short": "wants one at the least",
    "finite_number": "wants a finite number",
    "literal_error": "wants {expected}",
    "greater_than": "wants more than {gt}",
    "greater_than_equal": "wants {ge} or more",
    "less_than": "wants less than {lt}",
    "less_than_equal": "wants {le} or less",
    "value_error": "{error}",
}


def reason(problem: dict[str, Any]) -> str:
    """Return what is wrong about a value, of which only a number or boolean is shown: others may be a secret in the wrong place."""
    given: Any = problem["input"]
    bounds = {k: int(v) if isinstance(v, float) and v.is_integer() else v for k, v in problem.get("ctx", {}).items()}
    known = REASONS.get(problem["type"])
    said = known.format_map(bounds) if known else str(problem["msg"]).lower()
    if problem["type"] == "missing":
        return said
    if given is None:
        return f"is left empty and {said}"
    is_harmless = isinstance(given, bool | int | float) and (isinstance(given, float) or abs(given) < 1e9)
    return f"{said} (it is {given!r})" if is_harmless else said


def assigned(key: Key, model: type[BaseModel]) -> str:
    """Return an example as it stands in the file; of a list, one value."""
    value = example(at(key, model))
    shown = value if not key or isinstance(key[-1], int) else {key[-1]: value}
    text = yaml.safe_dump([shown], default_flow_style=True, sort_keys=False, width=math.inf, allow_unicode=True)
    text = text.strip()[1:-1]
    return text[1:-1] if isinstance(shown, dict) and shown is not value else text


def at(key: Key, model: type[BaseModel]) -> Any:
    """Return the field or type at a key; of what is not known, the innermost that is."""
    found: Any = model
    for part in key:
        kind = bare(found)
        if get_origin(kind) is dict:
            found = get_args(kind)[1]
        elif get_origin(kind) is list:
            found = get_args(kind)[0]
        elif known := fields(found).get(str(part)):
            found = known
    return found


def bare(kind: Any) -> Any:
    """Return a type without what goes with it and without None."""
    if isinstance(kind, FieldInfo):
        return bare(kind.annotation)
    if get_origin(kind) is Annotated:
        return bare(get_args(kind)[0])
    if get_origin(kind) in (Union, UnionType):
        return bare(next(one for one in get_args(kind) if one is not NoneType))
    return kind


def fields(kind: Any) -> dict[str, FieldInfo]:
    """Return the fields of a table."""
    model = bare(kind)
    return {**model.model_fields} if isinstance(model, type) and issubclass(model, BaseModel) else {}


def example(kind: Any) -> Any:
    """Return a right value of a field or type: its default, its own example, or one made of those of its parts."""
    if isinstance(kind, FieldInfo):
        if isinstance(kind.default, str | int | float):
            return kind.default
        return kind.examples[0] if kind.examples else example(kind.annotation)
    if get_origin(kind) is Annotated:
        first, *others = get_args(kind)
        return next((one.examples[0] for one in others if isinstance(one, FieldInfo) and one.examples), example(first))
    if get_origin(kind) in (Union, UnionType):
        return example(next(one for one in get_args(kind) if one is not NoneType))
    if get_origin(kind) is list:
        return [example(get_args(kind)[0])]
    if get_origin(kind) is dict:
        return {example(part): example(of) for part, of in [get_args(kind)]}
    if get_origin(kind) is Literal:
        return get_args(kind)[0]
    known = fields(kind)
    wanted = [name for name, field in known.items() if field.is_required()] or list(known)[:1]
    return {name: example(known[name]) for name in wanted} or SIMPLE[kind]


SIMPLE: Mapping[Any, Any] = {bool: True, int: 1, float: 0.5, str: "text"}
