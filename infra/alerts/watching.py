"""Alerts about the monitoring itself."""

from infra.alerts.rule import Alert

SERVICE = {"service": "prometheus"}

ALERTS = (
    Alert(
        "Watchdog",
        "vector(1)",
        "none",
        "alerts arrive",
        "This one always fires ({{ $value }}): whoever stops hearing it has to look.",
        lasting="0s",
        labels=SERVICE,
    ),
    Alert(
        "TargetDown",
        "up == 0",
        "warning",
        "{{ $labels.instance }} of {{ $labels.job }} does not answer Prometheus",
        "Its metrics are missing (up is {{ $value }}).",
        labels={"service": "{{ $labels.job }}"},
    ),
    Alert(
        "MetricsMissing",
        'absent(up{job="kube-state-metrics"} == 1)',
        "warning",
        "nothing is known of pods, rollouts, Jobs and backups",
        "kube-state-metrics does not answer ({{ $value }}): no alert about them can fire.",
        labels={"service": "kube-state-metrics"},
    ),
    Alert(
        "RulesFail",
        "sum by (rule_group) (increase(prometheus_rule_evaluation_failures_total[5m])) > 0",
        "warning",
        "Prometheus cannot compute rules",
        "In {{ $labels.rule_group }} {{ $value | humanize }} evaluations failed within 5 minutes: their alerts may not fire.",
        lasting="0s",
        labels=SERVICE,
    ),
    Alert(
        "NotificationsFail",
        "sum by (job) (increase(prometheus_notifications_errors_total[2m])) > 0"
        " or sum by (job, integration) (increase(alertmanager_notifications_failed_total[2m])) > 0"
        " or sum by (job) (prometheus_notifications_alertmanagers_discovered) < 1",
        "critical",
        "alerts do not arrive",
        "{{ $labels.job }} could not deliver ({{ $labels.integration }}, {{ $value | humanize }}).",
        lasting="0s",
        labels={"service": "{{ $labels.job }}"},
    ),
)
