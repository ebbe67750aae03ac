"""Capacity alerts: connections, requests in progress, memory, CPU and disk near their limits."""

from infra.alerts.rule import SERVICE_OF_CONTAINER, Alert

SERVICE_OF_JOB = {"service": "{{ $labels.job }}"}
SHED = 10
"""Refused requests in two minutes at which the alert fires: a client that is refused now and then tries again."""

ALERTS = (
    Alert(
        "DatabasePoolExhausted",
        'sum by (job, pod) (database_pool_connections{state="used"}) / sum by (job, pod) (database_pool_limit) >= 0.9',
        "warning",
        "{{ $labels.pod }} has hardly a connection to the database left",
        "{{ $value | humanizePercentage }} of its pool are in use.",
        lasting="30s",
        labels=SERVICE_OF_JOB,
    ),
    Alert(
        "RequestsShed",
        # Not for a client beyond its share: any client could make the alert fire, and no other one is affected.
        f'sum by (job, reason) (increase(gateway_shed_total{{reason!="client"}}[2m])) >= {SHED}',
        "warning",
        "the gateway refuses requests: {{ $labels.reason }}",
        "{{ $value | humanize }} requests were refused within 2 minutes.",
        lasting="0s",
        labels=SERVICE_OF_JOB,
    ),
    Alert(
        "ContainerMemoryNearLimit",
        'max by (pod, container) (container_memory_working_set_bytes{container!=""})'
        ' / max by (pod, container) (kube_pod_container_resource_limits{resource="memory"}) > 0.9',
        "warning",
        "{{ $labels.container }} in {{ $labels.pod }} will soon be killed for its memory",
        "It has {{ $value | humanizePercentage }} of its limit.",
        labels=SERVICE_OF_CONTAINER,
    ),
    Alert(
        "CpuThrottled",
        # For the pod as a whole, which every kubelet reports; series of its containers, if there are any, are left out.
        'sum by (pod) (rate(container_cpu_cfs_throttled_periods_total{container=""}[5m]))'
        ' / sum by (pod) (rate(container_cpu_cfs_periods_total{container=""}[5m])) > 0.5'
        # One period is 0.1 s: a pod that runs in less than a tenth of the periods is not affected.
        ' and sum by (pod) (rate(container_cpu_cfs_periods_total{container=""}[5m])) > 1',
        "warning",
        "{{ $labels.pod }} is held back by its CPU limit",
        "It had to wait in {{ $value | humanizePercentage }} of the periods in which it ran.",
        lasting="5m",
        labels={"service": "{{ $labels.pod }}"},
    ),
    Alert(
        "VolumeFilling",
        "max by (persistentvolumeclaim) (kubelet_volume_stats_used_bytes)"
        " / max by (persistentvolumeclaim) (kubelet_volume_stats_capacity_bytes) > 0.85",
        "warning",
        "the volume {{ $labels.persistentvolumeclaim }} is nearly full",
        "It is {{ $value | humanizePercentage }} full.",
        labels={"service": "{{ $labels.persistentvolumeclaim }}"},
    ),
    Alert(
        "PostgresConnectionsNearLimit",
        'sum(pg_stat_activity_count{job="postgres"}) / max(pg_settings_max_connections{job="postgres"}) > 0.8',
        "warning",
        "Postgres will soon refuse connections",
        "{{ $value | humanizePercentage }} of its connections are in use.",
        lasting="30s",
        labels={"service": "postgres"},
    ),
)
