"""The metrics of Postgres and of Redis in Prometheus."""

import pytest

from tests.support.running import Items, Kubectl, eventually


@pytest.mark.parametrize(("job", "port", "metric"), [("postgres", 9187, "pg_up"), ("redis", 9121, "redis_up")])
def test_an_exporter_reaches_what_it_asks(items: Items, kubectl: Kubectl, job: str, port: int, metric: str) -> None:
    def reached() -> bool:
        pod = items("pods", "-l", f"app.kubernetes.io/name={job}-metrics", "--field-selector=status.phase=Running")[-1]
        where = pod["metadata"]["namespace"], pod["metadata"]["name"]
        said = kubectl("get", "--raw", "/api/v1/namespaces/{}/pods/{}:{}/proxy/metrics".format(*where, port))
        return f"{metric} 1" in said.splitlines()

    eventually(reached, f"{metric} is 1", 60)
