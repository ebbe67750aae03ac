"""The estate's dashboards. The parts about services are derived from infra/services.py."""

from collections.abc import Mapping

from infra.alerts.objectives import LONG, PROBES
from infra.dashboards.panels import Dashboard, Panel, Row, or_zero, panel, rate, share
from infra.services import GATEWAY
from infra.settings.service import Slo

QUANTILES = (0.5, 0.95, 0.99)
OF_CLIENTS = f'endpoint!~"{PROBES}"'
"""Matcher of requests that are not the estate's own."""
WINDOW = LONG[-1]
"""Longest window over which budgets are recorded."""


def dashboards(slos: Mapping[str, Slo]) -> tuple[Dashboard, ...]:
    """Return all dashboards, for the objectives of each service."""
    return (
        Dashboard("estate", "Estate", (Row("", estate()),)),
        Dashboard("services", "Services", tuple(Row(name, service(name)) for name in slos)),
        Dashboard("objectives", "Objectives", tuple(Row(name, objectives(name, slo)) for name, slo in slos.items())),
        Dashboard("gateway", "Gateway and its upstreams", (Row("", gateway()),)),
        Dashboard("postgres", "Postgres", (Row("", postgres()),)),
        Dashboard("redis", "Redis", (Row("", redis()),)),
        Dashboard("consul", "Consul", (Row("", consul()),)),
    )


def answers(service: str, more: str = "") -> str:
    """Return the counter of a service's answers to clients."""
    return f'http_request_duration_seconds_count{{job="{service}",{OF_CLIENTS}{more}}}'


def failures(service: str) -> Panel:
    """Return the panel with the ratio of answers that are the service's own failures."""
    failed = rate(answers(service, ',status_code=~"5.."'))
    return panel("Failures", "percentunit", (share(or_zero(failed), or_zero(rate(answers(service)))), "5xx"))


def latency(service: str) -> Panel:
    """Return the panel with quantiles of the time to the end of an answer."""
    buckets = rate(f'http_request_duration_seconds_bucket{{job="{service}",{OF_CLIENTS}}}', by="le")
    return panel(
        "Latency",
        "s",
        *((f"histogram_quantile({quantile}, {buckets})", f"p{quantile * 100:g}") for quantile in QUANTILES),
    )


def requests(service: str) -> Panel:
    """Return the panel with answers per second."""
    return panel("Requests", "reqps", (rate(answers(service), by="status_code"), "{{status_code}}"), stacked=True)


def estate() -> tuple[Panel, ...]:
    """Return the panels of the overview: requests, failures and latency at the gateway, and the state of all workloads."""
    container = 'container!=""'
    return (
        requests(GATEWAY),
        failures(GATEWAY),
        latency(GATEWAY),
        panel("Targets that answer", "short", ("sum by (job) (up)", "{{job}}")),
        panel(
            "Replicas that are missing",
            "short",
            (
                "sum by (deployment) (kube_deployment_spec_replicas - kube_deployment_status_replicas_ready)",
                "{{deployment}}",
            ),
            (
                "sum by (statefulset) (kube_statefulset_replicas - kube_statefulset_status_replicas_ready)",
                "{{statefulset}}",
            ),
        ),
        panel(
            "Alerts that fire",
            "short",
            *(
                (or_zero(f'count(ALERTS{{alertstate="firing",severity="{severity}"}})'), severity)
                for severity in ("critical", "warning")
            ),
        ),
        panel(
            "CPU", "short", (rate(f"container_cpu_usage_seconds_total{{{container}}}", by="container"), "{{container}}")
        ),
        panel(
            "Memory",
            "decbytes",
            (f"sum by (container) (container_memory_working_set_bytes{{{container}}})", "{{container}}"),
        ),
        panel(
            "Restarts in an hour",
            "short",
            ("sum by (container) (increase(kube_pod_container_status_restarts_total[1h]))", "{{container}}"),
        ),
    )


def service(name: str) -> tuple[Panel, ...]:
    """Return the panels of a service: rate, errors, duration and resource usage."""
    return (
        requests(name),
        failures(name),
        latency(name),
        panel("Requests in progress", "short", (f'sum by (pod) (active_requests{{job="{name}"}})', "{{pod}}")),
        panel("CPU", "short", (rate(f'process_cpu_seconds_total{{job="{name}"}}', by="pod"), "{{pod}}")),
        panel("Memory", "decbytes", (f'sum by (pod) (process_resident_memory_bytes{{job="{name}"}})', "{{pod}}")),
    )


def objectives(name: str, slo: Slo) -> tuple[Panel, ...]:
    """Return the panels of a service's objectives: how far they are met, and the budget that is left."""
    budgets = {"errors": 1 - slo.availability_percent / 100, "slow": 1 - slo.latency_percent / 100}
    titles = {"errors": "Requests that failed", "slow": f"Requests that took more than {slo.latency_s:g} s"}
    of = f'{{service="{name}"}}'
    went_wrong = (
        panel(
            titles[what],
            "percentunit",
            *((f"slo:{what}:ratio_rate{window}{of}", f"of {window}") for window in ("5m", "1h", WINDOW)),
            (f"vector({budget:.6g})", "may"),
        )
        for what, budget in budgets.items()
    )
    left = {
        what: f"clamp_min(1 - slo:{what}:ratio_rate{WINDOW}{of} / {budget:.6g}, 0)" for what, budget in budgets.items()
    }
    return (
        *went_wrong,
        panel(
            f"Budget that is left, over {WINDOW}",
            "percentunit",
            (left["errors"], "to fail"),
            (left["slow"], "to be slow"),
        ),
    )


def gateway() -> tuple[Panel, ...]:
    """Return the panels of the gateway and the services behind it."""
    return (
        panel(
            "Instances",
            "short",
            ("max by (service) (gateway_upstream_instances)", "{{service}}"),
            ("max by (service) (gateway_upstream_ejected)", "{{service}}, left out"),
        ),
        panel("Requests in flight", "short", ("sum by (service) (gateway_upstream_in_flight)", "{{service}}")),
        panel(
            "Circuit breaker open",
            "short",
            ("max by (service) (gateway_breaker_open)", "{{service}}"),
        ),
        panel(
            "Exchanges that failed",
            "ops",
            (or_zero(rate("gateway_upstream_failures_total")), "failures"),
            (or_zero(rate("gateway_retries_total")), "retries"),
        ),
        panel(
            "Requests that were refused",
            "reqps",
            (or_zero(rate("gateway_shed_total")), "too many at once"),
            (or_zero(rate("gateway_rate_limited_total")), "over their limit"),
        ),
        panel("WebSockets", "short", ("sum by (pod) (gateway_websockets)", "{{pod}}")),
    )


def postgres() -> tuple[Panel, ...]:
    """Return the panels of the database, as it and its clients see it."""
    blocks = [rate(f"pg_stat_database_blks_{kind}") for kind in ("hit", "read")]
    return (
        panel(
            "Transactions",
            "ops",
            *((rate(f"pg_stat_database_xact_{end}"), f"{end}s") for end in ("commit", "rollback")),
        ),
        panel(
            "Connections",
            "short",
            ('sum by (datname) (pg_stat_database_numbackends{datname!~"|template.*"})', "{{datname}}"),
            ("max(pg_settings_max_connections)", "limit"),
        ),
        panel(
            "Pools of the services", "short", ("sum by (job, state) (database_pool_connections)", "{{job}} {{state}}")
        ),
        panel("Reads from memory", "percentunit", (share(blocks[0], f"({blocks[0]} + {blocks[1]})"), "hits")),
        panel(
            "Rows",
            "ops",
            *((rate(f"pg_stat_database_tup_{done}"), done) for done in ("fetched", "inserted", "updated", "deleted")),
        ),
        panel("Size", "decbytes", ('sum by (datname) (pg_database_size_bytes{datname!~"template.*"})', "{{datname}}")),
    )


def redis() -> tuple[Panel, ...]:
    """Return the panels of the cache, as it and its clients see it."""
    hits, misses = rate("redis_keyspace_hits_total"), rate("redis_keyspace_misses_total")
    return (
        panel("Commands", "ops", (rate("redis_commands_processed_total"), "commands")),
        panel("Keys that were there", "percentunit", (share(hits, f"({hits} + {misses})"), "hits")),
        panel(
            "Users asked of the cache", "ops", (rate("cache_requests_total", by="result"), "{{result}}"), stacked=True
        ),
        panel(
            "Memory",
            "decbytes",
            ("sum(redis_memory_used_bytes)", "used"),
            ("sum(redis_memory_max_bytes)", "limit"),
        ),
        panel("Clients", "short", ("sum(redis_connected_clients)", "connected")),
        panel(
            "Keys that went",
            "ops",
            (rate("redis_evicted_keys_total"), "evicted"),
            (rate("redis_expired_keys_total"), "expired"),
        ),
    )


def consul() -> tuple[Panel, ...]:
    """Return the panels of the registry."""
    # The host's name is in some metrics' names, unless Consul's telemetry is configured otherwise.
    instances, healthy = (
        f'max({{job="consul",__name__=~"consul_(.+_)?{name}"}})'
        for name in ("state_service_instances", "autopilot_healthy")
    )
    commits = [rate(f"consul_raft_commitTime_{part}") for part in ("sum", "count")]
    return (
        panel("Instances in the catalogue", "short", (instances, "instances")),
        panel("Services registered by themselves", "short", ("sum by (job) (service_registered)", "{{job}}")),
        panel("All servers healthy", "short", (healthy, "1 for yes")),
        panel("Questions", "ops", (rate("consul_rpc_query"), "queries"), (rate("consul_raft_apply"), "writes")),
        panel("Time of a write", "s", (f"{share(*commits)} / 1000", "mean")),
        panel("Memory", "decbytes", ('sum by (pod) (process_resident_memory_bytes{job="consul"})', "{{pod}}")),
    )
