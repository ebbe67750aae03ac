"""Values that have a grammar: exactly those that Kubernetes, cron and registries accept are accepted."""

import re
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from infra import addresses, mail_addresses, values

NUMBERS = st.from_regex(r"[+-]?([0-9]{1,6}(\.[0-9]{0,4})?|\.[0-9]{1,4})", fullmatch=True)
UNITS = st.sampled_from(
    ["", *"numkMGTPEKe", *(f"{unit}i" for unit in "kKMGTPE"), "MB", "e3", "E-2", "e+1", "e", " Mi", "mi"]
)


def independent(quantity: str) -> Decimal | None:
    """Return the value of a quantity, parsed by the grammar in Kubernetes' documentation; None for an invalid one."""
    rest = quantity[1:] if quantity[:1] in ("+", "-") else quantity
    digits = rest[: len(rest) - len(rest.lstrip("0123456789."))]
    if digits.count(".") > 1 or not digits.strip("."):
        return None
    number = Decimal(f"0{digits}0" if "." in digits else digits) * (-1 if quantity[0] == "-" else 1)
    unit = rest[len(digits) :]
    powers = {"": 0, "n": -9, "u": -6, "m": -3, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15, "E": 18}
    if unit in powers:
        return number.scaleb(powers[unit])
    if len(unit) == 2 and unit[0] in "KMGTPE" and unit[1] == "i":
        return number * Decimal(2) ** (10 * ("KMGTPE".index(unit[0]) + 1))
    exponent = unit[1:].removeprefix("+" if unit[1:2] == "+" else "-")
    if unit[0] in "eE" and exponent.isdecimal() and int(exponent) < 100:
        return number.scaleb(int(unit[1:]))
    return None


@given(quantity=st.builds("{}{}".format, NUMBERS, UNITS))
@example("1E3")
@example("1E")
@example(".5Gi")
@example("5.")
def test_a_quantity_is_what_an_independent_reader_makes_of_it(quantity: str) -> None:
    expected = independent(quantity)
    try:
        assert values.amount(quantity) == expected
    except ValueError:
        assert expected is None


@given(quantity=st.text(alphabet="0123456789.+-eEKMGTPimkn ", max_size=8))
def test_no_text_is_a_quantity_that_an_independent_reader_does_not_take(quantity: str) -> None:
    expected = independent(quantity) if quantity else None
    try:
        assert values.amount(quantity) == expected
    except ValueError:
        assert expected is None


@pytest.mark.parametrize(
    ("given_value", "taken"), [(1, "1"), (0.5, "0.5"), (0.25, "0.25"), ("500m", "500m"), (1.5, "1.5")]
)
def test_cpu_may_be_a_number(given_value: Any, taken: str) -> None:
    assert TypeAdapter[str](values.Cpu).validate_python(given_value, strict=True) == taken


@pytest.mark.parametrize("given_value", [True, 0, -1, 0.0001, float("nan"), float("inf"), None, [1], b"1", 10**19])
def test_what_is_no_cpu_is_refused(given_value: Any) -> None:
    with pytest.raises(ValidationError):
        TypeAdapter[str](values.Cpu).validate_python(given_value, strict=True)


@pytest.mark.parametrize(
    "value",
    [
        "17 2 * * *", "*/15 * * * *", "0 0,12 1 */2 *", "5/10 * * * *", "0 0 * * MON-FRI", "0 0 1 jan,Feb ?", "0 0 31 2 fri", "0 0 29 2 *",
        "0-30/10 1-5 1-31 1-12 0-6", "@daily", "@hourly", "@every 1h30m", "0 0 ? * ?", "0  0 * * *", " 17  2 * * * ",
        "@every 1.5h", "@every 500ms", "@every .5h", "@every 1.h", "@every 0.5h30s", "0 0 31 2 */2", "0 0 30,31 2,4 *",
    ],
)  # fmt: skip
def test_a_schedule_of_kubernetes_is_taken(value: str) -> None:
    assert values.schedule(value) == value


@pytest.mark.parametrize(
    "value",
    [
        "", "every night", "* * * *", "* * * * * *", "60 * * * *", "* 24 * * *", "* * 0 * *", "* * 32 * *", "* * * 0 *", "* * * * 7",
        "5-1 * * * *", "*/0 * * * *", "1-2-3 * * * *", "a * * * *", "* * * mon *", "* * * * jan", "*-5 * * * *", ", * * * *", "1, * * * *",
        "-1 * * * *", "0 0 30 2 *", "0 0 31 4,6,9,11 *", "@Daily", "@every 0s", "@every", "@every 1d", "@every 0.0m", "@every 2562048h", "0 0 31 2 */1",
        "*/0.5 * * * *",
        "@reboot", "TZ=UTC 0 0 * * *",
        "0 0 * * *\n", "0\t0 * * *", "\u0660 0 * * *",
    ],
)  # fmt: skip
def test_what_is_no_schedule_is_refused(value: str) -> None:
    with pytest.raises(ValueError, match=r"^wants "):
        values.schedule(value)


@given(
    minute=st.integers(0, 59),
    hour=st.integers(0, 23),
    day=st.integers(1, 31),
    month=st.integers(1, 12),
    weekday=st.integers(0, 6),
)
def test_any_date_with_a_day_of_the_week_is_a_schedule(
    minute: int, hour: int, day: int, month: int, weekday: int
) -> None:
    values.schedule(f"{minute} {hour} {day} {month} {weekday}")


GOOD = {
    values.image: [
        "redis",
        "redis:7",
        "localhost:5000/a/b",
        "r.example.com/a__b/c-d:v1.0_x",
        f"r@{values.ZEROS}",
        f"r:1@{values.ZEROS}",
        "[::1]:5000/a",
    ],
    values.image_by_digest: [f"r/a@{values.ZEROS}", f"localhost:5000/r/a:1@{values.ZEROS}", "r@sha512:" + "a" * 128],
    values.registry: [
        "r",
        "localhost:5000",
        "localhost:5000/estate",
        "registry.example.com/a/b",
        "Registry.Example.com:443/a",
    ],
    values.label: ["a", "0", "ingress-nginx", "a" * 63],
    values.subdomain: ["a", "api.tls", "a" * 253],
    values.public_host: ["api.example.com", "a"],
    values.stack_name: ["dev", "pr-12", "logs", "a" * 51],
    values.folder: ["/var/log/pods", "/a b"],
    mail_addresses.mail_addresses: [
        "a@b.example",
        "a@b.example, C <c+d@e.example>",
        '"Ops, team" <a@x.com>',
        "Dr. Ada O'Neil <a@x.com>",
        "<a@x.com>",
        "Jürgen <a.b@x-y.com>,b@x.com",
        r'"Ops \"1\"" <a@x.com>',
    ],
    values.text: ["a", "#estate", "Ada Lovelace"],
    values.instant: ["2026-01-31T12:00:00+00:00"],
    addresses.network: ["10.0.8.0/24", "0.0.0.0/0", "203.0.113.7/32", "2001:db8::/32", "::/0"],
}
BAD = {
    values.image: ["", "Redis", "redis:", "redis:-1", "a//b", "/a", "a/", "https://r/a", "u:hunter2@r/a", "r@sha256:12", f"r@{values.ZEROS}0", "r:65536x/",
        "a b", "a\n",
        "a" * 256, "r:0/a", "r:70000/a", "0" * 64, "r@md5:" + "0" * 32],
    values.image_by_digest: ["r/a:1", "r/a", values.ZEROS, f"@{values.ZEROS}", f"R@{values.ZEROS}"],
    values.registry: ["", "r/", "/r", "https://r", "r:0", "r:65536", "r:99999/a",
        "Registry/Estate", "u:hunter2@r", "r/a:tag", f"r@{values.ZEROS}", "a b", "r\n"],
    values.label: ["", "A", "a.b", "a_b", "-a", "a-", "a" * 64, "ä", "a\n", "a b"],
    values.subdomain: ["", "A", "a_b", ".a", "a.", "a..b", "-a", "a" * 254, "a\n"],
    values.public_host: ["10.0.0.1", "::1", "1.2", "*.example.com", "A.example.com", "a_b", "a:1"],
    values.stack_name: ["", "IAC", "a.b", "local dev", "a" * 52, "dev-logs"],
    values.folder: ["", "/", "a", "/a:b", "/a/../b", "/a\n", "//"],
    mail_addresses.mail_addresses: ["", "a", "@b", "a@", "a b@c", "a@b,", "a@b..c", "a@b\n", "a..b@x.com", "a@::1", "Ops: team <a@x.com>", "a@x.com;b@x.com",
        "a" * 65 + "@x.com", '"Ops <a@x.com>', "Ops <a@x.com", " a@x.com", "a @x.com", "(Ops) <a@x.com>", "a" * 30000, "a@x.com," * 9000],
    values.text: ["", " ", " a", "a ", "a\nb", "a\0", "\x7f", "\ud800", "a\u2028b"],
    values.instant: ["", "yesterday", "2026-13-01", "2026-01-31", "2026-W05-6", "2026-01-31T12:00:00"],
    addresses.network: ["", "10.0.0.0", "10.0.0.1/24", "10.0.0.0/33", "10.0.0.0/255.0.0.0", "10.0.0.0/08", "fe80::%eth0/64",
        "10.0.0/8", "a/8", "10.0.0.0/8\n", "1/1"],
}  # fmt: skip


@pytest.mark.parametrize(
    ("schedule", "hours"),
    [
        ("17 2 * * *", 24),
        ("0 */6 * * *", 6),
        ("*/15 * * * *", 0.25),
        ("0 2 * * 1-5", 72),
        ("0 2,14 * * 0", 6.5 * 24),
        ("0 0 1 * *", 31 * 24),
        ("0 0 1 * mon", 7 * 24),
        ("0 0 */2 * *", 48),
        ("@daily", 24),
        ("@weekly", 168),
        ("@every 90m", 1.5),
    ],
)
def test_the_longest_time_between_two_runs_of_a_schedule(schedule: str, hours: float) -> None:
    assert values.longest_gap_h(schedule) == hours


@pytest.mark.parametrize(("check", "value"), [(check, value) for check, good in GOOD.items() for value in good])
def test_what_others_take_is_taken_as_it_is(check: Any, value: str) -> None:
    assert check(value) == value


@pytest.mark.parametrize(("check", "value"), [(check, value) for check, bad in BAD.items() for value in bad])
def test_what_others_refuse_is_refused_unseen(check: Any, value: str) -> None:
    with pytest.raises(ValueError, match=r"^wants ") as refused:
        check(value)
    assert "hunter2" not in str(refused.value)


@given(value=st.text(max_size=12))
def test_a_type_takes_no_text_that_its_pattern_in_the_schema_refuses(value: str) -> None:
    for kind in (
        values.Cpu,
        values.Size,
        values.Image,
        values.ImageByDigest,
        values.Registry,
        values.Label,
        values.Subdomain,
        addresses.Network,
    ):
        adapter = TypeAdapter[str](kind)
        try:
            adapter.validate_python(value)
        except ValidationError:
            continue
        assert re.search(adapter.json_schema()["pattern"], value), (kind, value)
