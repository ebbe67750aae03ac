import pytest

from estate.core.console import EstateError
from estate.pulumi.program import Registered
from estate.scaffold.architecture import PAGE, diagram, drawn
from tests.support.flows import FLOWS, OUTSIDE, PASSING, PORTS


def test_the_picture_is_of_the_program_as_it_is(resources: list[Registered]) -> None:
    assert PAGE.read_text() == drawn(PAGE.read_text(), resources), (
        "the program makes something else now: estate docs architecture"
    )


def test_every_flow_is_a_line_and_nothing_else_is(resources: list[Registered]) -> None:
    between = {(source, to) for source, targets in FLOWS.items() for to in targets} | PASSING
    lines = {line.strip() for line in diagram(resources).splitlines() if " --> " in line and "world" not in line}
    outside = {f"{source} -- {port} --> {to}" for source, targets in OUTSIDE.items() for to, port in targets}
    assert lines == {f"{source} -- {PORTS[to]} --> {to}" for source, to in between} | outside


def test_clients_come_in_by_the_public_hosts(resources: list[Registered]) -> None:
    lines = {line.strip() for line in diagram(resources).splitlines() if "world --" in line}
    assert 'world -- "api.myapp.com" --> api-gateway' in lines
    assert len(lines) == 4


def test_a_page_without_its_marks_is_refused(resources: list[Registered]) -> None:
    with pytest.raises(EstateError, match="lacks the lines between which the diagram goes"):
        drawn("# Architecture\n", resources)
