from typing import Any

from estate.ops.backups import once_more, with_environment


def test_a_job_is_run_once_more_without_what_kubernetes_put_into_the_first() -> None:
    first: dict[str, Any] = {
        "metadata": {"name": "m-1", "labels": {"app.kubernetes.io/name": "m"}, "uid": "1"},
        "spec": {
            "backoffLimit": 3,
            "selector": {"matchLabels": {"batch.kubernetes.io/controller-uid": "1"}},
            "template": {"metadata": {"labels": {"controller-uid": "1"}}, "spec": {"containers": []}},
        },
    }
    again = once_more("m", first)
    assert again["spec"]["template"] == {
        "metadata": {"labels": {"app.kubernetes.io/name": "m"}},
        "spec": {"containers": []},
    }
    assert "selector" not in again["spec"]
    assert again["metadata"]["name"].startswith("m-")


def test_a_restore_job_gets_the_name_of_the_backup() -> None:
    job: dict[str, Any] = {"spec": {"template": {"spec": {"containers": [{"env": []}]}}}}
    (container,) = with_environment(job, {"FROM": "x.dump"})["spec"]["template"]["spec"]["containers"]
    assert container["env"] == [{"name": "FROM", "value": "x.dump"}]
