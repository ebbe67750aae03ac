"""Every alert has a runbook, and the commands in it exist."""

import re

from estate.core.paths import PROJECT
from infra.alerts.rule import RUNBOOKS
from tests.tools.rules.test_rules import GROUPS, RUNBOOKS_URL

PAGES = {path.relative_to(PROJECT).as_posix(): path.read_text() for path in (PROJECT / RUNBOOKS).glob("*.md")}
GOALS = set(re.findall(r"^([a-z-]+):", (PROJECT / "Makefile").read_text(), re.MULTILINE))


def test_every_alert_has_a_page_and_every_page_an_alert() -> None:
    named = {
        rule["annotations"]["runbook_url"].replace(RUNBOOKS_URL, RUNBOOKS): rule["alert"]
        for group in GROUPS
        for rule in group["rules"]
        if "alert" in rule
    }
    assert {page: text.splitlines()[0] for page, text in PAGES.items()} == {
        page: f"# {alert}" for page, alert in named.items()
    }


def test_every_page_has_diagnosis_remediation_and_a_test() -> None:
    for page, text in PAGES.items():
        assert re.findall(r"^## (.*)$", text, re.MULTILINE) == ["Diagnosis", "Remediation", "How to test"], page


def test_every_make_on_a_page_is_one_that_there_is() -> None:
    named = {page: set(re.findall(r"\bmake ([a-z][a-z-]*)", text)) for page, text in PAGES.items()}
    assert {page: goals - GOALS for page, goals in named.items() if goals - GOALS} == {}
    assert set().union(*named.values()) >= {"up"}


def test_a_command_answers_where_something_has_never_happened() -> None:
    """Refuse jsonpath, with which kubectl prints nothing for a missing field; as a column it is `<none>`."""
    assert [page for page, text in PAGES.items() if "jsonpath" in text] == []


def test_every_page_that_a_page_leads_to_is_there() -> None:
    for page, text in PAGES.items():
        for link in re.findall(r"\]\(([^)#]+)", text):
            assert ((PROJECT / page).parent / link).is_file(), f"{page}: {link}"
