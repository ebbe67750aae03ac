from importlib.metadata import version

import pytest
from prometheus_client import REGISTRY
from servicekit import metrics


def test_the_version_is_that_of_the_services_package() -> None:
    metrics.tell_version("user-service")
    labels = {"service": "user-service", "version": version("user-service")}
    assert REGISTRY.get_sample_value("build_info", labels) == 1


def test_a_service_by_another_name_than_its_package_has_a_version_that_is_not_known() -> None:
    metrics.tell_version("renamed")
    assert REGISTRY.get_sample_value("build_info", {"service": "renamed", "version": "unknown"}) == 1


@pytest.mark.parametrize("version", ["zzz", "1.x", "", "9" * 5000])
@pytest.mark.parametrize("kind", ["text/plain", "application/openmetrics-text", "*/*"])
async def test_a_scrape_is_answered_whatever_it_accepts(kind: str, version: str) -> None:
    answer = metrics.expose(f"{kind};version={version}")
    assert answer.status_code == 200
    assert b"build_info" in answer.body
