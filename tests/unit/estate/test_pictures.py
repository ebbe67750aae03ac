import re
from xml.etree import ElementTree as ET

import pytest

from estate.report.pictures import COLOURS, HEIGHT, WIDTH, Series, colour, now, picture, series, shown
from infra.dashboards.panels import Unit, panel

START, STEP = 1_800_000_000, 15
END = START + 4 * STEP
REQUESTS = panel("Requests", "reqps", ("x", "{{code}} of {{pod}}"), stacked=True)


def drawn(*values: float, name: str = "one") -> Series:
    return Series(name, {START + number * STEP: value for number, value in enumerate(values)})


def lines(svg: str) -> list[str]:
    """Return the lines of a picture, which SVG has as paths."""
    found = ET.fromstring(svg).iter("{http://www.w3.org/2000/svg}path")  # noqa: S314 - our own
    return [path.get("d", "") for path in found if path.get("aria-roledescription") == "line mark"]


def test_a_series_is_called_as_the_legend_says_and_has_its_numbers_alone() -> None:
    result = {"metric": {"code": "200"}, "values": [[START, "NaN"], [START + STEP, "2.5"], [END, "+Inf"]]}
    assert series("{{code}} of {{pod}}", result) == Series("200 of ", {START + STEP: 2.5})
    assert series("p99", {"metric": {}, "values": [[START, "NaN"]]}) is None


def test_a_picture_has_a_line_for_each_series_in_the_pages_colours() -> None:
    one, other = drawn(1, 2, 3, 4, 5), drawn(5, 4, 3, 2, 1)
    svg = picture(panel("Instances", "short", ("x", "")), [one, other], START, END, STEP)
    assert len(lines(svg)) == 2
    assert set(re.findall(r"var\(--series-\d+\)", svg)) == {colour(0), colour(1)}
    assert f'width="{WIDTH}" height="{HEIGHT}"' in svg


def test_a_line_breaks_where_values_are_missing() -> None:
    broken = Series("one", {START: 1, START + STEP: 2, END - STEP: 3, END: 4})
    (line,) = lines(picture(panel("Latency", "s", ("x", "")), [broken], START, END, STEP))
    assert line.count("M") == 2


def test_what_is_zero_all_the_time_is_drawn_on_the_ground() -> None:
    svg = picture(panel("Failures", "percentunit", ("x", "")), [drawn(0, 0, 0, 0, 0)], START, END, STEP)
    assert "100%" in svg


def test_colours_repeat_where_there_are_more_series() -> None:
    assert colour(COLOURS) == colour(0) != colour(1)


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (0, "reqps", "0/s"),
        (1234, "reqps", "1.23 k/s"),
        (0.0042, "s", "4.2 ms"),
        (2.5, "s", "2.5 s"),
        (0.999, "percentunit", "99.9 %"),
        (175e6, "decbytes", "175 MB"),
        (12, "decbytes", "12 B"),
        (3, "short", "3"),
        (12345, "short", "12.3 k"),
    ],
)
def test_values_are_for_people(value: float, unit: Unit, text: str) -> None:
    assert shown(value, unit) == text


def test_a_series_that_has_ended_has_no_value_now() -> None:
    assert now(drawn(1, 2, 3), END, "short") == "-"
    assert now(drawn(1, 2, 3, 4, 5), END, "short") == "5"
