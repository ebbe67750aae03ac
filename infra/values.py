"""Setting types with a grammar of their own, each with an example. Their errors never quote the value: a wrong one may be a secret."""

import re
from collections.abc import Sequence
from datetime import date, datetime, timedelta
from fractions import Fraction
from ipaddress import ip_address
from itertools import pairwise
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field

from infra.addresses import host

INT32 = 2**31 - 1
"""Maximum of most of Kubernetes' integers."""
QUANTITY = r"([+-]?)(\d{1,20}(?:\.\d{0,20})?|\.\d{1,20})([KMGTPE]i|[numkMGTPE]|[eE][+-]?0{0,9}\d{1,2})?"
"""Pattern of a quantity (https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/quantity/)."""
BINARY, DECIMAL = "KMGTPE", {"n": -9, "u": -6, "m": -3, "": 0, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15, "E": 18}


def amount(quantity: str) -> Fraction:
    """Return the number that a Kubernetes quantity stands for.

    Raises:
        ValueError: the value is invalid.
    """
    found = re.fullmatch(QUANTITY, quantity, re.ASCII)
    if found is None:
        raise ValueError("wants a Kubernetes quantity: a number with a unit of m, k, M, G, T, Ki, Mi, Gi, Ti or none")
    sign, number, unit = found[1], Fraction(found[2]), found[3] or ""
    if unit.endswith("i"):
        number *= 1024 ** (BINARY.index(unit[0]) + 1)
    else:
        number *= Fraction(10) ** (DECIMAL[unit] if unit in DECIMAL else int(unit[1:]))
    return -number if sign == "-" else number


def quantity(value: str, least: Fraction, finest: str) -> str:
    """Return a Kubernetes quantity that is more than zero and a multiple of `least`.

    Raises:
        ValueError: the value is invalid.
    """
    found = amount(value)
    if found <= 0:
        raise ValueError("wants more than zero")
    if found >= 2**63:
        raise ValueError("wants less than 8Ei, where Kubernetes' numbers end")
    if (found / least).denominator != 1:
        raise ValueError(finest)
    return value


def cpu(value: str) -> str:
    """Return a quantity of CPU.

    Raises:
        ValueError: the value is invalid.
    """
    return quantity(value, Fraction(1, 1000), "wants no less than 1m at a time, a thousandth of a CPU")


def size(value: str) -> str:
    """Return a quantity of memory or storage.

    Raises:
        ValueError: the value is invalid.
    """
    return quantity(value, Fraction(1), "wants whole bytes, of which m is a thousandth")


def in_quotes(value: Any) -> Any:
    """Return a number as the text that it is in YAML, for `cpu: 0.5`."""
    return str(value) if isinstance(value, int | float) and not isinstance(value, bool) else value


NUMBER_OR_TEXT: dict[str, Any] = {"type": ["string", "number"], "pattern": f"^{QUANTITY}$", "exclusiveMinimum": 0}
Cpu = Annotated[
    str, BeforeValidator(in_quotes), AfterValidator(cpu), Field(examples=["250m"], json_schema_extra=NUMBER_OR_TEXT)
]
Size = Annotated[
    str, BeforeValidator(in_quotes), AfterValidator(size), Field(examples=["128Mi"], json_schema_extra=NUMBER_OR_TEXT)
]

COMPONENT = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
DOMAIN_PART = r"[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?"
PORT = r"(?:[1-9][0-9]{0,3}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5])"
DOMAIN = rf"(?:{DOMAIN_PART}(?:\.{DOMAIN_PART})*|\[[0-9a-fA-F:]+\])(?::{PORT})?"
REPOSITORY = rf"(?:{DOMAIN}/)?{COMPONENT}(?:/{COMPONENT})*"
DIGEST = r"sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128}"
IMAGE = rf"(?![0-9a-f]{{64}}$)({REPOSITORY})(?::[A-Za-z0-9_][A-Za-z0-9_.-]{{0,127}})?(?:@(?:{DIGEST}))?"
"""Pattern of a reference (https://pkg.go.dev/github.com/distribution/reference); 64 hexadecimal digits alone are an id."""
BY_DIGEST = rf"({REPOSITORY})(?::[A-Za-z0-9_][A-Za-z0-9_.-]{{0,127}})?@(?:{DIGEST})"
LONGEST_REPOSITORY = 255
LONGEST_IMAGE = LONGEST_REPOSITORY + 1 + 128 + 1 + 7 + 128
ZEROS = "sha256:" + "0" * 64


def matching(pattern: str, value: str, wanted: str, longest: int | None = None) -> str:
    """Return a text that matches a pattern and is not too long.

    Raises:
        ValueError: `wanted`.
    """
    if (longest is not None and len(value) > longest) or not re.fullmatch(pattern, value, re.ASCII):
        raise ValueError(wanted)
    return value


def reference(pattern: str, value: str, wanted: str) -> str:
    """Return a reference to an image whose repository, the first group of the pattern, is not too long.

    Raises:
        ValueError: `wanted`.
    """
    found = re.fullmatch(pattern, value, re.ASCII) if len(value) <= LONGEST_IMAGE else None
    if found is None or len(found[1]) > LONGEST_REPOSITORY:
        raise ValueError(wanted)
    return value


def image(value: str) -> str:
    """Return a reference to an image.

    Raises:
        ValueError: the value is invalid.
    """
    return reference(IMAGE, value, "wants an image as registry/repository:tag, in lower case, with @digest if need be")


def image_by_digest(value: str) -> str:
    """Return a reference to an image by its digest.

    Raises:
        ValueError: the value is invalid.
    """
    return reference(
        BY_DIGEST, value, "wants an image as registry/repository@sha256: and 64 hexadecimal digits, in lower case"
    )


def registry(value: str) -> str:
    """Return a registry with a path, below which repositories have names.

    Raises:
        ValueError: the value is invalid.
    """
    wanted = "wants host[:port]/path of a registry, in lower case, without https:// and a slash at the end"
    matching(REPOSITORY, f"{value}/name", wanted, LONGEST_REPOSITORY)
    return value


Image = Annotated[
    str,
    AfterValidator(image),
    Field(examples=["docker.io/library/redis:7.0"], json_schema_extra={"pattern": f"^{IMAGE}$"}),
]
ImageByDigest = Annotated[
    str,
    AfterValidator(image_by_digest),
    Field(
        examples=[f"registry.example.com/estate/user-service@{ZEROS}"], json_schema_extra={"pattern": f"^{BY_DIGEST}$"}
    ),
]
Registry = Annotated[
    str,
    AfterValidator(registry),
    Field(examples=["registry.example.com/estate"], json_schema_extra={"pattern": f"^(?:{DOMAIN}|{REPOSITORY})$"}),
]

LABEL = r"[a-z0-9](?:[-a-z0-9]*[a-z0-9])?"
SUBDOMAIN = rf"{LABEL}(?:\.{LABEL})*"
"""Pattern of a DNS subdomain (https://kubernetes.io/docs/concepts/overview/working-with-objects/names/)."""
LONGEST_STACK = 63 - len("estate--logs")
"""Maximum length of a stack's name: those of its namespaces, estate-<stack> and estate-<stack>-logs, have at most 63 characters."""


def label(value: str) -> str:
    """Return a name that is a label of RFC 1123, such as that of a namespace.

    Raises:
        ValueError: the value is invalid.
    """
    return matching(
        LABEL, value, "wants 1 to 63 lower-case letters, digits and -, a letter or digit first and last", 63
    )


def subdomain(value: str) -> str:
    """Return a name that is a subdomain of RFC 1123, such as that of a Secret.

    Raises:
        ValueError: the value is invalid.
    """
    wanted = "wants 1 to 253 lower-case letters, digits, - and ., a letter or digit first and last in each part"
    return matching(SUBDOMAIN, value, wanted, 253)


def public_host(value: str) -> str:
    """Return the host of an Ingress, which is a name, not an IP address.

    Raises:
        ValueError: the value is invalid.
    """
    try:
        ip_address(value)
    except ValueError:
        return host(subdomain(value))
    raise ValueError("wants the name of a host: an Ingress has no address")


def stack_name(value: str) -> str:
    """Return the name of a stack, from which its namespaces' names are made.

    Raises:
        ValueError: the value is invalid.
    """
    wanted = f"wants 1 to {LONGEST_STACK} lower-case letters, digits and -, a letter or digit first and last, since estate-<stack> is a namespace"
    matching(LABEL, value, wanted, LONGEST_STACK)
    if value.endswith("-logs"):
        raise ValueError("wants another ending than -logs: estate-<stack>-logs is a namespace of stack <stack>")
    return value


Label = Annotated[
    str,
    AfterValidator(label),
    Field(examples=["ingress-nginx"], json_schema_extra={"pattern": f"^{LABEL}$", "maxLength": 63}),
]
Subdomain = Annotated[
    str,
    AfterValidator(subdomain),
    Field(examples=["api-tls"], json_schema_extra={"pattern": f"^{SUBDOMAIN}$", "maxLength": 253}),
]
PublicHost = Annotated[
    str,
    AfterValidator(public_host),
    Field(examples=["api.example.com"], json_schema_extra={"pattern": f"^{SUBDOMAIN}$", "maxLength": 253}),
]
StackName = Annotated[
    str,
    AfterValidator(stack_name),
    Field(examples=["dev"], json_schema_extra={"pattern": f"^(?!.*-logs$){LABEL}$", "maxLength": LONGEST_STACK}),
]

MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
WEEKDAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
LAST_DAYS = (31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)
PART = re.compile(r"(?:([*?])|(\d{1,2}|[a-z]{3})(?:-(\d{1,2}|[a-z]{3}))?)(?:/(\d{1,3}))?", re.ASCII)
NICKNAMES = re.compile(r"@(?:yearly|annually|monthly|weekly|daily|midnight|hourly)")
EVERY = re.compile(r"@every (?:(?:[0-9]{1,6}(?:\.[0-9]{0,9})?|\.[0-9]{1,9})(?:ms|[hms]))+")
LONGEST_S = 2**63 / 10**9
"""Maximum seconds of a duration in Go."""
ANY = re.compile(r"[*?](?:/0*1)?")
"""Pattern of a part of a field that leaves the choice of days to the other field (dayMatches in spec.go of robfig/cron)."""


def schedule(value: str) -> str:
    """Return a schedule in the syntax of Kubernetes' CronJob (https://pkg.go.dev/github.com/robfig/cron/v3).

    Raises:
        ValueError: the value is invalid, or never due.
    """
    if value.startswith(("TZ=", "CRON_TZ=")):
        raise ValueError("wants no time zone, which Kubernetes refuses in a schedule: it is in UTC")
    if NICKNAMES.fullmatch(value):
        return value
    if EVERY.fullmatch(value):
        return every(value)
    fields = [field for field in value.lower().split(" ") if field]
    if len(fields) != 5:
        raise ValueError("wants minute, hour, day of the month, month and day of the week, or @daily and the like")
    times(fields[0], 0, 59)
    times(fields[1], 0, 23)
    days, months = times(fields[2], 1, 31), times(fields[3], 1, 12, MONTHS)
    times(fields[4], 0, 6, WEEKDAYS)
    # If a day of the week is given, the schedule is due on that day as well.
    is_any = any(ANY.fullmatch(part) for part in fields[4].split(","))
    if is_any and all(min(days) > LAST_DAYS[month - 1] for month in months):
        raise ValueError("wants a day that its months have: this is never due")
    return value


def every(value: str) -> str:
    """Return a schedule with a fixed interval.

    Raises:
        ValueError: the interval is out of range.
    """
    if not 0 < interval_s(value) < LONGEST_S:
        raise ValueError("wants more than no time after @every, and less than 292 years")
    return value


def interval_s(value: str) -> Fraction:
    """Return the seconds of a schedule with a fixed interval."""
    parts = re.findall(r"([0-9.]+)(ms|[hms])", value)
    seconds = {"h": Fraction(3600), "m": Fraction(60), "s": Fraction(1), "ms": Fraction(1, 1000)}
    return sum((Fraction(number) * seconds[unit] for number, unit in parts), Fraction(0))


NICKNAMES_H = {"hourly": 1, "daily": 24, "midnight": 24, "weekly": 7 * 24, "monthly": 31 * 24}
YEAR_H = 366 * 24


def longest_gap_h(value: str) -> float:
    """Return the hours from one time that a valid schedule is due to the next, at the most."""
    if value.startswith("@every "):
        return float(interval_s(value) / 3600)
    if value.startswith("@"):
        return NICKNAMES_H.get(value[1:], YEAR_H)
    minutes, hours, days, months, weekdays = value.lower().split()
    due = sorted(60 * hour + minute for hour in times(hours, 0, 23) for minute in times(minutes, 0, 59))
    either = not any(ANY.fullmatch(part) for field in (days, weekdays) for part in field.split(","))
    of_month, of_year = times(days, 1, 31), times(months, 1, 12, MONTHS)
    of_week = times(weekdays, 0, 6, WEEKDAYS)

    def is_due(day: date) -> bool:
        matches = day.day in of_month, day.isoweekday() % 7 in of_week
        return day.month in of_year and (any(matches) if either else all(matches))

    start = date(2024, 1, 1)  # eight years, in which every day of a year is each day of a week, or nearly
    found = [number for number in range(8 * 366) if is_due(start + timedelta(number))]
    between = [24 * 60 * (after - before) - due[-1] + due[0] for before, after in pairwise(found)]
    return max([*between, *(after - before for before, after in pairwise(due))], default=YEAR_H * 60) / 60


def times(field: str, low: int, high: int, names: Sequence[str] = ()) -> set[int]:
    """Return the numbers that a field of a schedule stands for.

    Raises:
        ValueError: the field is invalid.
    """
    numbers = {name: low + index for index, name in enumerate(names)}
    found: set[int] = set()
    for part in field.split(","):
        parts = PART.fullmatch(part)
        if parts is None:
            raise ValueError(
                "wants in each field *, whole numbers, ranges a-b, steps */n, or several of them with commas"
            )
        every, first, last, step = parts.groups()
        try:
            start = low if every else numbers[first] if first in numbers else int(first)
            end = (
                (high if every or step else start) if last is None else numbers[last] if last in numbers else int(last)
            )
        except ValueError as error:
            raise ValueError("wants no names but jan to dec for months and sun to sat for days of the week") from error
        if low <= end < start <= high:
            raise ValueError("wants the lower number of a range first")
        if not low <= start <= end <= high or step == "0" * len(step or ""):
            raise ValueError(
                "wants minutes of 0-59, hours of 0-23, days of 1-31, months of 1-12, days of the week of 0-6, steps from 1"
            )
        found.update(range(start, end + 1, int(step or 1)))
    return found


Schedule = Annotated[str, AfterValidator(schedule), Field(examples=["17 2 * * *"])]


def text(value: str) -> str:
    """Return a text of one line that is not empty.

    Raises:
        ValueError: the value is invalid.
    """
    if not value or value != value.strip() or not value.isprintable():
        raise ValueError("wants a text of one line, not empty, without control characters and spaces around it")
    return value


def role(value: str) -> str:
    """Return the name of a role of Postgres, of at most 63 bytes.

    Raises:
        ValueError: the value is invalid.
    """
    if len(text(value).encode()) > 63:
        raise ValueError("wants a name of 63 bytes at the most")
    if value.startswith("pg_") or value in ("public", "none"):
        raise ValueError("wants another name: public, none and what begins with pg_ are Postgres' own")
    return value


def folder(value: str) -> str:
    """Return an absolute path, as Kubernetes mounts them.

    Raises:
        ValueError: the value is invalid.
    """
    if not text(value).startswith("/") or value.strip("/") == "" or ".." in value.split("/") or ":" in value:
        raise ValueError("wants an absolute path without .. and :")
    return value


def instant(value: str) -> str:
    """Return a date and time of ISO 8601.

    Raises:
        ValueError: the value is invalid.
    """
    wanted = "wants a date and time of ISO 8601 with its distance from UTC"
    try:
        found = datetime.fromisoformat(value)
    except ValueError as error:
        raise ValueError(wanted) from error
    if found.tzinfo is None:
        raise ValueError(wanted)
    return value


ONE_LINE: dict[str, Any] = {"minLength": 1, "pattern": "^[^\\u0000-\\u001f\\u007f]+$"}
Text = Annotated[str, AfterValidator(text), Field(examples=["billing"], json_schema_extra=ONE_LINE)]
Role = Annotated[str, AfterValidator(role), Field(examples=["postgres"], json_schema_extra=ONE_LINE)]
Folder = Annotated[str, AfterValidator(folder), Field(examples=["/var/log/pods"], json_schema_extra={"pattern": "^/."})]
Instant = Annotated[
    str,
    AfterValidator(instant),
    Field(
        examples=["2026-01-31T12:00:00+00:00"],
        json_schema_extra={"pattern": "^[0-9]{4}-?[0-9W].*[T ].*(?:Z|[+-][0-9:]{2,8})$"},
    ),
]
