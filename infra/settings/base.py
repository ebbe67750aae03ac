"""Base of the tables of settings, and types that several of them use."""

from typing import Any
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict

from infra.values import Cpu, Size


class Settings(BaseModel):
    """Base of every table of settings: no unknown key, no value of another type, no change after loading."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, allow_inf_nan=False, use_attribute_docstrings=True
    )


class Quantities(Settings):
    """Kubernetes quantities of CPU and memory."""

    cpu: Cpu
    """CPUs, such as 250m or 0.25, a quarter of one."""
    memory: Size
    """Bytes, such as 128Mi."""


def no_boolean(value: Any) -> Any:
    """Return any value except true and false, which are 1 and 0 in Python.

    Raises:
        ValueError: the value is one of them.
    """
    if isinstance(value, bool):
        raise ValueError("wants a number")  # noqa: TRY004 - pydantic reports a ValueError as a mistake in the file
    return value


def port_of(url: str) -> int:
    """Return the port of a URL."""
    parts = urlsplit(url)
    return parts.port or {"http": 80, "https": 443}[parts.scheme]
