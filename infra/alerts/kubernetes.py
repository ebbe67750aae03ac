"""Alerts about workloads and Jobs, from kube-state-metrics."""

from infra.alerts.rule import SERVICE_OF_CONTAINER, Alert

CANNOT_START = "ImagePullBackOff|ErrImagePull|InvalidImageName|CreateContainerConfigError|CreateContainerError"
SNAPSHOT_TOO_OLD_H = 3
"""Hours after which Consul's newest snapshot is too old; one is made every hour."""
REHEARSED_D = 90


def alerts(backup_too_old_h: int) -> list[Alert]:
    """Return the alerts about workloads and Jobs.

    Args:
        backup_too_old_h: age of the newest dump of the database, in hours, past which an alert fires.
    """
    deployment = {"service": "{{ $labels.deployment }}"}
    return [
        Alert(
            "PodCrashLooping",
            'max by (pod, container) (max_over_time(kube_pod_container_status_waiting_reason{reason="CrashLoopBackOff"}[2m])) == 1'
            " or max by (pod, container) (increase(kube_pod_container_status_restarts_total[10m])) >= 3",
            "warning",
            "{{ $labels.container }} in {{ $labels.pod }} ends again and again",
            "Kubernetes restarts it, and waits longer each time ({{ $value | humanize }}).",
            lasting="0s",
            labels=SERVICE_OF_CONTAINER,
        ),
        Alert(
            "PodCannotStart",
            "max by (pod, container, reason)"
            f' (max_over_time(kube_pod_container_status_waiting_reason{{reason=~"{CANNOT_START}"}}[1m])) == 1',
            "warning",
            "{{ $labels.container }} in {{ $labels.pod }} cannot be started",
            "Kubernetes says {{ $labels.reason }} ({{ $value }}).",
            labels=SERVICE_OF_CONTAINER,
        ),
        Alert(
            "ReplicasMissing",
            'label_replace(kube_deployment_spec_replicas - kube_deployment_status_replicas_ready > 0, "workload", "$1", "deployment", "(.*)")'
            ' or label_replace(kube_statefulset_replicas - kube_statefulset_status_replicas_ready > 0, "workload", "$1", "statefulset", "(.*)")',
            "warning",
            "{{ $labels.workload }} has fewer ready instances than it should",
            "{{ $value }} are missing.",
            lasting="2m",
            labels={"service": "{{ $labels.workload }}"},
        ),
        Alert(
            "RolloutStuck",
            "kube_deployment_spec_replicas - kube_deployment_status_replicas_updated > 0"
            " or kube_deployment_status_replicas - kube_deployment_status_replicas_updated > 0",
            "warning",
            "the rollout of {{ $labels.deployment }} does not get on",
            "{{ $value }} of its pods are still of the version before.",
            lasting="5m",
            labels=deployment,
        ),
        Alert(
            "JobFailed",
            # Whoever requests a restore sees how it ends.
            'kube_job_failed{condition="true",job_name!~"(postgres|consul)-restore-.*"} == 1',
            "warning",
            "the Job {{ $labels.job_name }} failed",
            "None of its pods ended well ({{ $value }}).",
            lasting="0s",
            labels={"service": "{{ $labels.job_name }}"},
        ),
        too_old("postgres-backup", backup_too_old_h, "postgres"),
        too_old("consul-snapshot", SNAPSHOT_TOO_OLD_H, "consul"),
        Alert(
            "RestoreNotRehearsed",
            since_success("postgres-restore", REHEARSED_D * 86400),
            "warning",
            "it is not known whether the database's backups can be restored",
            "The last restore was {{ $value | humanizeDuration }} ago.",
            lasting="0s",
            labels={"service": "postgres"},
        ),
    ]


def too_old(cronjob: str, hours: int, service: str) -> Alert:
    """Return the alert that fires when a CronJob that makes backups has not succeeded for hours."""
    return Alert(
        "BackupTooOld",
        since_success(cronjob, hours * 3600),
        "critical",
        f"there is no recent backup of {service}",
        f"The newest by {cronjob} was made {{{{ $value | humanizeDuration }}}} ago.",
        lasting="0s",
        labels={"service": service},
    )


def since_success(cronjob: str, seconds: int) -> str:
    """Return an expression for the seconds since a CronJob last succeeded, or was created if it never did; true above a threshold."""
    of = f'{{cronjob="{cronjob}"}}'
    last = f"max by (cronjob) (kube_cronjob_status_last_successful_time{of})"
    return f"time() - ({last} or max by (cronjob) (kube_cronjob_created{of})) > {seconds}"
