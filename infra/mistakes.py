"""Describe pydantic's errors about settings in terms of the stack file, each with an example of a correct value."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, cast, get_args, get_origin

import yaml
from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from infra.stack_file import SETTINGS, Key, Mistake, closest, nearest
from infra.stages import Stage, defaults_of


@dataclass(frozen=True)
class Contradiction:
    """A value that contradicts another one."""

    key: Key
    """Key of the value, below the table that is validated."""
    reason: str
    right: str | None = None
    """Example of a correct value; None: the key's own example."""
    other: "Contradiction | None" = None
    """The same contradiction from the side of the other value, for a file that has only that one."""


class ContradictionError(ValueError):
    """Error for values that contradict each other, raised by validators of tables."""

    def __init__(self, *found: Contradiction) -> None:
        super().__init__("; ".join(one.reason for one in found))
        self.found = found


@dataclass(frozen=True)
class Origins:
    """Origins of values: the file, or the defaults of a stage."""

    written: Any
    """The settings as they are in the file."""
    stage: Stage | None
    """Stage of the stack; None: there is no file."""

    def inherited(self, key: Key) -> Key | None:
        """Return the key below `service` from which a key below `services` inherits its value, if the file has that key."""
        common = ("service", *key[2:])
        is_own = key[:1] != ("services",) or has(self.written, key) or has(self.defaults, key)
        return common if not is_own and has(self.written, common) else None

    def note(self, key: Key) -> str:
        """Return a note on the origin of a value that is not in the file."""
        if has(self.written, key) or self.inherited(key):
            return ""
        service = f" for {key[1]}" if key[0] == "services" and has(self.defaults, key) else ""
        common = ("service", *key[2:]) if key[0] == "services" else key
        is_stages = has(self.defaults, key) or has(self.defaults, common)
        return f" (the default of stage {self.stage}{service})" if is_stages else " (the default)"

    @property
    def defaults(self) -> Any:
        """Return the default settings of the stage."""
        return defaults_of(self.stage) if self.stage else {}


def has(values: Any, key: Key) -> bool:
    """Return whether there is a value at a key."""
    for part in key:
        if isinstance(values, list):
            values = dict(enumerate(cast("list[Any]", values)))
        if not isinstance(values, dict) or part not in values:
            return False
        values = cast("dict[str | int, Any]", values)[part]
    return True


def mistakes_of(
    error: ValidationError, model: type[BaseModel], written: Mapping[str, Any], stage: Stage | None = None
) -> list[Mistake]:
    """Return the mistakes at their keys in the file, each once: not again for each service that inherits it from `service`.

    Args:
        error: error of the validation.
        model: model of the settings.
        written: the settings without the defaults of a stage.
        stage: stage that provided the defaults.
    """
    origins = Origins(written, stage)
    problems = cast("list[dict[str, Any]]", error.errors(include_url=False))
    odd = {problem["loc"][:-1] for problem in problems if "[key]" in problem["loc"]}
    # Values below an unknown key are not reported.
    problems = [
        one for one in problems if "[key]" in one["loc"] or not any(one["loc"][: len(key)] == key for key in odd)
    ]
    found = [mistake for problem in problems for mistake in described(problem, model, origins)]
    said = {mistake.key for mistake in found}
    own = [mistake for mistake in found if mistake.key[2:3] != ("services",) or has(written, mistake.key[2:])]
    others = {(*SETTINGS, "service", *one.key[4:]): one for one in reversed(found) if one not in own}
    news = [one for key, one in others.items() if not any(key[:end] in said for end in range(len(key) + 1))]
    return own + [of_service(one, origins) for one in news]


def of_service(mistake: Mistake, origins: Origins) -> Mistake:
    """Return a mistake of one service at the key of `service` from which the value is inherited, if it is."""
    common, service = origins.inherited(mistake.key[2:]), mistake.key[3]
    if common is None:
        return mistake
    where = "" if mistake.reason.endswith(f" for {service})") else f", in {service}"
    return replace(mistake, key=(*SETTINGS, *common), reason=mistake.reason + where)


def described(problem: dict[str, Any], model: type[BaseModel], origins: Origins) -> list[Mistake]:
    """Return the mistakes that one of pydantic's errors describes."""
    key: Key = tuple(part for part in problem["loc"] if part != "[key]")
    cause = problem.get("ctx", {}).get("error")
    if isinstance(cause, ContradictionError):
        return [contradicted(key, one, model, origins) for one in cause.found]
    if "[key]" in problem["loc"]:
        names, _ = get_args(bare(at(key[:-1], model)))
        return [Mistake((*SETTINGS, *key), reason(problem), assigned((*key[:-1], example(names)), model))]
    if problem["type"] == "extra_forbidden":
        known = fields(at(key[:-1], model))
        name = closest(str(key[-1]), known) or next(iter(known))
        wrong = f"is not known ({nearest(str(key[-1]), known)})"
        return [Mistake((*SETTINGS, *key), wrong, assigned((*key[:-1], name), model))]
    return [Mistake((*SETTINGS, *key), reason(problem), assigned(key, model))]


def contradicted(table: Key, one: Contradiction, model: type[BaseModel], origins: Origins) -> Mistake:
    """Return the mistake at whichever of two values the file has, with a note if the other one is a default."""
    both = (one, one.other) if one.other else (one,)
    written = [value for value in both if has(origins.written, (*table, *value.key))]
    inherited = [value for value in both if origins.inherited((*table, *value.key))]
    said = [*written, *inherited, one][0]
    other = next((value for value in both if value is not said), None)
    key, note = (*table, *said.key), origins.note((*table, *other.key)) if other else ""
    return Mistake((*SETTINGS, *key), said.reason + note, said.right or assigned(key, model))


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
    """Return the reason why a value is wrong. Only a number or boolean is quoted: other values may be misplaced secrets."""
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
    """Return an example as it would stand in the file; for a list, one item."""
    value = example(at(key, model))
    shown = value if not key or isinstance(key[-1], int) else {key[-1]: value}
    text = yaml.safe_dump([shown], default_flow_style=True, sort_keys=False, width=math.inf, allow_unicode=True)
    text = text.strip()[1:-1]
    return text[1:-1] if isinstance(shown, dict) and shown is not value else text


def at(key: Key, model: type[BaseModel]) -> Any:
    """Return the field or type at a key; if the key is not known, the innermost known one."""
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
    """Return a type without annotations and without None."""
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
    """Return a correct value of a field or type: its default, its own example, or one composed of examples of its parts."""
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
