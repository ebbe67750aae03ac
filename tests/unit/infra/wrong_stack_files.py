"""Stack files with one error each: its line, its key, and a word of the expected message."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace

from infra.authority import authority, pem

CA = pem(authority("somebody else's"))
HEAD = """\
config:
  pulumi:disable-default-providers: [kubernetes]
  estate:settings:
    stage: local
    registry: localhost:5000/estate
    api_server: {networks: [10.213.0.1/32]}
    ingress: {namespace: ingress-nginx}
"""
"""Seven lines of a valid stack file, to which an eighth is added."""
ROUTE = "    service: {routes: [{prefix: /a, %s}]}\n"
CORS = "    service: {routes: [{prefix: /a, cors: {allow_origins: [https://a.example], %s}}]}\n"
CLIENT = "    clients: [{id: a, secret_hash: %s, user_id: %s, username: %s}]\n"
HASH = "$argon2id$v=19$m=19456,t=2,p=1$c2FsdHNhbHRzYWx0$aGFzaGhhc2hoYXNoaGFzaA"
MANAGED = "    postgres: {kind: managed, managed: {host: %s, networks: [192.0.2.0/24], ca: %s}}\n"
MANAGED_AS = f"    postgres: {{kind: managed, managed: {{host: h, networks: [192.0.2.0/24], ca: {json.dumps(CA)}, admin: %s}}}}\n"
MAIL = "    receivers: [{name: a, kind: email, email: {host: %s, sender: %s, to: %s}}]\n"
PROMOTED = "    promoted: {stack: %s, commit: %s, at: %s, by: %s}\n"
NOW = "'2026-01-31T12:00:00+00:00'"


@dataclass(frozen=True)
class Wrong:
    """A wrong stack file."""

    content: str | bytes
    line: int
    key: str
    says: str

    def __str__(self) -> str:
        return f"{self.key}-{self.content[-60:]!r}"


def added(line: str, key: str, says: str, below: int = 0) -> Wrong:
    """Return a valid file with a wrong eighth line, or seventh where that is another ingress, or one below that."""
    head = HEAD.splitlines(keepends=True)[: 6 if line.startswith("ingress:") else 7]
    wrong = "    " * (not line.startswith(" ")) + line.rstrip("\n") + "\n"
    return Wrong("".join(head) + wrong, len(head) + 1 + below, key, says)


def replaced(number: int, line: str, key: str, says: str, below: int = 0) -> Wrong:
    """Return a valid file with one line replaced, and the mistake there or below."""
    lines: list[str] = [*HEAD.splitlines()]
    lines[number - 1] = line
    return Wrong("\n".join(lines) + "\n", number + below, key, says)


def of_quantities() -> Iterator[Wrong]:
    for value, says in [
        ("128MB", "wants a Kubernetes quantity"),
        ("128 Mi", "wants a Kubernetes quantity"),
        ("1e", "wants a Kubernetes quantity"),
        ("Mi", "wants a Kubernetes quantity"),
        ("''", "wants a Kubernetes quantity"),
        ("128mi", "wants a Kubernetes quantity"),
        ("'1e999'", "wants a Kubernetes quantity"),
        ("128m", "wants whole bytes"),
        ("0", "wants more than zero"),
        ("-1Gi", "wants more than zero"),
        ("8Ei", "wants less than 8Ei"),
        ("true", "wants a text"),
        ("[1Gi]", "wants a text"),
        ("", "is left empty"),
    ]:
        yield added(f"storage: {{postgres: {value}}}", "storage.postgres", says)
    for key in ("backups", "consul", "prometheus", "alertmanager"):
        yield added(f"storage: {{{key}: 2GB}}", f"storage.{key}", "wants a Kubernetes quantity")
    yield added("service: {requests: {cpu: 0.5m}}", "service.requests.cpu", "wants no less than 1m at a time")
    yield added("service: {requests: {cpu: 100mcpu}}", "service.requests.cpu", "wants a Kubernetes quantity")
    yield added("service: {requests: {memory: 1MB}}", "service.requests.memory", "wants a Kubernetes quantity")
    yield added("service: {limits: {cpu: two}}", "service.limits.cpu", "wants a Kubernetes quantity")
    yield added("service: {limits: {memory: 0}}", "service.limits.memory", "wants more than zero")
    yield added("service: {requests: {cpu: 2}}", "service.requests.cpu", "is more than limits.cpu, which is 500m")
    yield added(
        "service: {limits: {memory: 32Mi}}",
        "service.limits.memory",
        "is less than requests.memory, which is 64Mi (the default of stage local)",
    )
    yield added(
        "service: {requests: {memory: 512Mi}}",
        "service.requests.memory",
        "is more than limits.memory, which is 128Mi (the default of stage local)",
    )
    yield added(
        "service: {requests: {memory: 512Mi}, limits: {memory: 1Gi}}",
        "service.requests.memory",
        "is more than limits.memory, which is 256Mi (the default of stage local for api-gateway)",
    )
    yield added(
        "service: {requests: {memory: 96Mi}}\n    services: {user-service: {limits: {memory: 80Mi}}}",
        "services.user-service.limits.memory",
        "is less than requests.memory, which is 96Mi",
        below=1,
    )
    yield added(
        "services: {user-service: {requests: {memory: 1Gi}}}",
        "services.user-service.requests.memory",
        "more than limits",
    )


def of_services() -> Iterator[Wrong]:
    yield added("service: {replicas: 0}", "service.replicas", "wants 1 or more")
    for key in (
        "replicas: 2147483648",
        "scaling: {least: 2147483648, most: 5}",
        "scaling: {least: 1, most: 2147483648}",
    ):
        name = "scaling.least" if "least: 21" in key else "scaling.most" if "most: 21" in key else "replicas"
        yield added(f"service: {{{key}}}", f"service.{name}", "wants 2147483647 or less")
    yield added(
        "service: {routes: [{prefix: /x}, {prefix: /x}]}", "service.routes.1.prefix", "is that of another route already"
    )
    yield added("service: {replicas: three}", "service.replicas", "wants a whole number")
    yield added("service: {replicas: '3'}", "service.replicas", "wants a whole number")
    yield added("service: {replicas: 1.5}", "service.replicas", "wants a whole number")
    yield added("service: {replicas: true}", "service.replicas", "wants a whole number")
    yield added("service: {scaling: {least: 5, most: 2}}", "service.scaling.least", "is 5, more than most, which is 2")
    yield replaced(
        4,
        "    stage: prod\n    service: {scaling: {most: 2}}",
        "service.scaling.most",
        "is 2, less than least, which is 3 (the default of stage prod)",
        below=1,
    )
    yield replaced(
        4,
        "    stage: prod\n    service: {scaling: {least: 11}}",
        "service.scaling.least",
        "is 11, more than most, which is 10 (the default of stage prod)",
        below=1,
    )
    yield added("service: {scaling: {least: 5}}", "service.scaling.most", "is missing")
    yield added(
        "service: {scaling: {least: 1, most: 2, cpu_percent: 101}}", "service.scaling.cpu_percent", "wants 100 or less"
    )
    yield added("service: {slo: {latency_s: 0.3}}", "service.slo.latency_s", "wants one of 0.005")
    yield added(
        "service: {slo: {availability_percent: 100}}", "service.slo.availability_percent", "wants less than 100"
    )
    yield added("service: {slo: {latency_percent: 0}}", "service.slo.latency_percent", "wants more than 0")
    for key in ("availability_percent", "latency_percent"):
        yield added(f"service: {{slo: {{{key}: 0.999}}}}", f"service.slo.{key}", "no alert could ever fire")
    yield added("service: [replicas]", "service", "wants a table")
    yield added("services: [user-service]", "services", "wants a table")
    yield added("services:", "services", "is left empty")
    yield added("services: {user-servise: 1}", "services.user-servise", "did you mean user-service?")
    yield added("service: {limits: }", "service.limits", "is left empty")
    yield added("service: {slo: 1}\n    services: {user-service: {slo: {}}}", "service.slo", "wants a table")
    yield added("services: {user-service: }", "services.user-service", "is left empty")
    yield added("services: {user-servise: {}}", "services.user-servise", "did you mean user-service?")
    yield added("services: {user-service: {replicsa: 3}}", "services.user-service.replicsa", "did you mean replicas?")
    for terms, key, says in [
        ("methods: [FETCH]", "methods.0", "wants 'GET'"),
        ("methods: []", "methods", "wants one at the least"),
        ("auth: on", "auth", "some readers of YAML"),
        ("timeout_s: 0", "timeout_s", "wants more than 0"),
        ("timeout_s: 30s", "timeout_s", "wants a number"),
        ("attempts: 4", "attempts", "wants 3 or less"),
        ("balance: random", "balance", "wants 'least_busy'"),
        ("rate_limit: {requests: 0}", "rate_limit.requests", "wants 1 or more"),
        ("rate_limit: {requests: 1, per_s: 1m}", "rate_limit.per_s", "wants a whole number"),
        ("rate_limit: 600", "rate_limit", "wants a table"),
        ("cors: {}", "cors.allow_origins", "is missing"),
    ]:
        yield added(ROUTE % terms, f"service.routes.0.{key}", says)
    for terms, key, says in [
        ("headers: ['a b']", "headers.0", "wants the name of a header"),
        ("expose_headers: etag", "expose_headers", "wants a list"),
        ("max_age_s: -1", "max_age_s", "wants 0 or more"),
        ("credentials: 1", "credentials", "wants true or false"),
        ("credentials: true, headers: ['*']", "headers", "wants each by its name"),
    ]:
        yield added(CORS % terms, f"service.routes.0.cors.{key}", says)
    yield added("service: {routes: []}", "service.routes", "wants one at the least")
    yield added(
        "services: {api-gateway: {routes: [{prefix: /x}]}}", "services.api-gateway.routes", "behind the gateway"
    )
    yield added(
        ROUTE % "rate_limit: {requests: 2147483648}", "service.routes.0.rate_limit.requests", "2147483647 or less"
    )
    yield added("service: {routes: [{prefix: a}]}", "service.routes.0.prefix", "wants the beginning of a path")
    yield added("service: {routes: [{prefix: /health}]}", "service.routes.0.prefix", "the gateway itself answers")
    yield added(
        "service: {routes: [{prefix: /a, cors: {allow_origins: ['https://a.example/']}}]}",
        "service.routes.0.cors.allow_origins.0",
        "this is no origin",
    )
    yield added(
        "service: {routes: [{prefix: /a, methods: [GET], cors: {allow_origins: ['*'], methods: [PUT]}}]}",
        "service.routes.0.cors.methods",
        "does not take",
    )
    yield added("service: {variables: {APP_A: b}}", "service.variables", "are each service's own")
    for variables, key, says in [
        ("{APP_A: b}", "variables", "APP_A is none of those that user-service declares"),
        ("{app_a: b}", "variables.app_a", "wants APP_"),
        ("{APP_A: 1}", "variables.APP_A", "wants a text"),
        ("[APP_A]", "variables", "wants a table"),
    ]:
        yield added(f"services: {{user-service: {{variables: {variables}}}}}", f"services.user-service.{key}", says)


def of_places() -> Iterator[Wrong]:
    for value in (
        "'http://u:hunter2@h'",
        "localhost",
        "10.0.0.1/24x",
        "10.0.0.0/33",
        "10.0.0.0",
        "10.0.0.0/255.0.0.0",
        "5",
    ):
        yield added(f"kubelets: {{networks: [{value}]}}", "kubelets.networks.0", "wants a")
    yield added("kubelets: {networks: [10.0.0.1/24]}", "kubelets.networks.0", "has host bits set")
    yield added("kubelets: {networks: [10.0.0.0/8], port: 70000}", "kubelets.port", "wants 65535 or less")
    yield added("kubelets: {networks: [10.0.0.0/8], verify: off}", "kubelets.verify", "some readers of YAML")
    yield replaced(6, "    api_server: {networks: []}", "api_server.networks", "wants one at the least")
    yield replaced(6, "    api_server: 10.213.0.1/32", "api_server", "wants a table")
    yield replace(replaced(6, "    # api_server", "api_server", "is missing"), line=3)
    for value in ("API.myapp.com", "'10.0.0.1'", "a_b.example.com", "'u:hunter2@h'", "a..b", "''", "https://h", "5"):
        yield added(f"ingress: {{host: {value}}}", "ingress.host", "wants")
    long = f"{'a' * 51}.example.com"
    for host in ("localhost", long, ".".join(["a" * 50, *["b" * 60] * 3, "c" * 12])):
        yield added(
            f"ingress: {{namespace: a, host: {host}}}",
            "ingress.host",
            "for hosts of consoles are named after it (the default of stage local)",
        )
    yield added("ingress: {namespace: a, host: localhost, consoles: true}", "ingress.host", "wants a dot")
    yield added("ingress: {port: 12:30}", "ingress.port", "readers of YAML take this for different numbers")
    yield added("ingress: {port: 0}", "ingress.port", "wants 1 or more")
    yield added("ingress: {class_name: Nginx}", "ingress.class_name", "wants 1 to 253 lower-case")
    yield added("ingress: {tls_secret: api_tls}", "ingress.tls_secret", "wants 1 to 253 lower-case")
    yield added("ingress: {namespace: a, issuer: a, tls_secret: b}", "ingress.tls_secret", "one of the two taken out")
    yield added("ingress: {issuer: -a}", "ingress.issuer", "wants 1 to 253 lower-case")
    yield added("ingress: {namespace: a.b}", "ingress.namespace", "wants 1 to 63 lower-case")
    yield added("ingress: {trusted: 10.0.0.0/8}", "ingress.trusted", "wants a list")
    yield added("ingress: {wait: 'no'}", "ingress.wait", "wants true or false")
    yield added("ingress: {consoles: yes}", "ingress.consoles", "some readers of YAML")
    yield added(
        "ingress: {metrics: {target: localhost, networks: [10.0.0.0/8]}}", "ingress.metrics.target", "wants host:port"
    )
    for target in ("a.b:080", "[fe80::1%a b]:80", "[fe80::1%eth0]:80"):
        yield added(
            f"ingress: {{namespace: a, metrics: {{target: '{target}', networks: [10.0.0.0/8]}}}}",
            "ingress.metrics.target",
            "wants host:port",
        )
    yield added(MAIL % ("'fe80::1%a b'", "a@b.example", "c@d.example"), "receivers.0.email.host", "wants no zone")
    yield added("ingress:", "ingress", "is left empty")
    yield added("ingress: {host: a.example.com}", "ingress.namespace", "is missing, and trusted too")
    yield replace(replaced(7, "    # ingress", "ingress.namespace", "is missing, and trusted too"), line=3)
    yield added("tracing: {endpoint: 'http://u:hunter2@h', namespace: a}", "tracing.endpoint", "wants http://host")
    for wrong in ("http://h/v1/traces", "http://h/otlp/v1/logs/", "http://h?x", "http://h/otlp?a=b"):
        for key in ("tracing", "logs"):
            yield added(f"{key}: {{endpoint: '{wrong}', namespace: a}}", f"{key}.endpoint", "without /v1/traces")
    yield added("tracing: {endpoint: 'http://h/%zz', namespace: a}", "tracing.endpoint", "wants http://host")
    yield added("tracing: {endpoint: 'http://h', namespace: a, ratio: 2}", "tracing.ratio", "wants 1 or less")
    yield added(
        "tracing: {endpoint: 'http://h', namespace: a, ratio: .nan}", "tracing.ratio", "Pulumi refuses a number"
    )
    yield added("tracing: {endpoint: 'http://h', namespace: a, ratio: .5}", "tracing.ratio", "different numbers")
    yield added("logs: {endpoint: 'http://h'}", "logs.namespace", "wants either namespace")
    yield added("logs: {endpoint: 'http://h', namespace: a, folder: ../x}", "logs.folder", "wants an absolute path")
    yield added("jwks: {url: 'ftp://h', issuer: i}", "jwks.url", "wants http://host")
    yield added("jwks: {url: 'https://h', issuer: 'https://api.myapp.com'}", "jwks.issuer", "is the stack's own issuer")
    yield added("jwks: {url: 'https://h', issuer: ''}", "jwks.issuer", "wants a text of one line")
    yield added("alerts: {runbooks: 'https://h/'}", "alerts.runbooks", "wants no / at the end")
    yield added("consul: {servers: 2}", "consul.servers", "wants 1 or 3")
    yield added("consul: {servers: true}", "consul.servers", "wants a number")
    for place, key, says in [
        ("{mail: {networks: [192.0.2.1], port: 1}}", "mail.networks.0", "wants a network"),
        ("{mail: {networks: [], port: 1}}", "mail.networks", "wants one at the least"),
        ("{mail: {networks: [192.0.2.0/24], port: 0}}", "mail.port", "wants"),
        ("{mail: {networks: [192.0.2.0/24]}}", "mail.port", "is missing"),
        ("{Mail: {networks: [192.0.2.0/24], port: 1}}", "Mail", "lower-case letters"),
    ]:
        yield added(f"outside: {place}", f"outside.{key}", says)


def of_images_and_names() -> Iterator[Wrong]:
    for value in (
        "https://r.example.com/estate",
        "Registry/Estate",
        "r.example.com/estate/",
        "r:0/estate",
        "''",
        "'u:hunter2@r/e'",
    ):
        yield replaced(5, f"    registry: {value}", "registry", "wants host[:port]/path")
    yield replaced(5, "    registry: 5000", "registry", "wants a text")
    for value in (
        "'redis:'",
        "Redis:7",
        "redis:7@sha256:abc",
        "docker.io//redis",
        "'redis 7'",
        "redis@7",
        "'u:hunter2@r/e'",
    ):
        yield added(f"images: {{redis: {value}}}", "images.redis", "wants an image")
    yield added("images: {redis: 7.0}", "images.redis", "wants a text")
    yield added("images: {redsi: 'redis:7'}", "images.redsi", "did you mean redis?")
    yield added(
        "digests: {user-service: 'r/user-service:1'}",
        "digests.user-service",
        "wants an image as registry/repository@sha256:",
    )
    yield added("digests: {user-service: 'r/user-service@sha256:12'}", "digests.user-service", "wants an image")
    yield added("digests: [a]", "digests", "wants a table")
    yield added("digests: {user-servise: 1}", "digests.user-servise", "did you mean user-service?")
    yield replaced(4, "    stage: [dev]", "stage", "wants 'local', 'dev', 'staging' or 'prod'")
    yield replaced(4, "    stage: production", "stage", "wants 'local', 'dev', 'staging' or 'prod'")
    yield replaced(4, "    stage:", "stage", "is left empty")
    yield added("build: 'true'", "build", "wants true or false")
    yield added("protected: 1", "protected", "wants true or false")
    yield added("protectd: true", "protectd", "did you mean protected?")
    yield added("'https://u:hunter2@h': 1", "a key", "is not known")
    for parts, key, says in [
        (("Dev", "a1", NOW, "ada"), "stack", "wants 1 to 51 lower-case"),
        (("dev", "1234567", NOW, "ada"), "commit", "wants a text"),
        (("dev", "12e4567", NOW, "ada"), "commit", "different numbers"),
        (("dev", "a1", "yesterday", "ada"), "at", "wants a date and time"),
        (("dev", "a1", "'2026-01-31'", "ada"), "at", "wants a date and time"),
        (("dev", "a1", "2026-01-31", "ada"), "at", "readers of YAML take this for a date"),
        (("dev", "a1", NOW, "' '"), "by", "wants a text of one line"),
    ]:
        yield added(PROMOTED % parts, f"promoted.{key}", says)


def of_data_and_people() -> Iterator[Wrong]:
    for value, says in [
        ("every night", "wants minute, hour"),
        ("17 2 * *", "wants minute, hour"),
        ("60 2 * * *", "wants minutes of 0-59"),
        ("17 24 * * *", "wants minutes of 0-59"),
        ("17 2 0 * *", "wants minutes of 0-59"),
        ("17 2 * 13 *", "wants minutes of 0-59"),
        ("17 2 * * 7", "wants minutes of 0-59"),
        ("17 2 * * someday", "wants in each field"),
        ("17 2 * mon *", "wants no names but jan to dec"),
        ("*/0 2 * * *", "wants minutes of 0-59"),
        ("17 2 31 4,6 *", "this is never due"),
        ("*/0.5 2 * * *", "whole numbers"),
        ("0.5 2 * * *", "whole numbers"),
        ("17 5-2 * * *", "the lower number of a range first"),
        ("17 2 * * fri-mon", "the lower number of a range first"),
        ("17 2 31 2 */1", "this is never due"),
        ("17 2 31 2 1,*", "this is never due"),
        ("@every 0.0s", "wants more than no time"),
        ("@every 999999h999999h999999h", "less than 292 years"),
        ("CRON_TZ=Europe/Vienna 17 2 * * *", "wants no time zone"),
        ("@midnite", "wants minute, hour"),
        ("* * * * *\\n", "wants in each field"),
    ]:
        yield added(f'postgres: {{backup: {{schedule: "{value}"}}}}', "postgres.backup.schedule", says)
    yield added("postgres: {backup: {schedule: 17}}", "postgres.backup.schedule", "wants a text")
    yield added("postgres: {backup: {keep: 0}}", "postgres.backup.keep", "wants 1 or more")
    yield added("postgres: {backup: {keep: -1}}", "postgres.backup.keep", "wants 1 or more")
    yield added("postgres: {backup: {keep: 2147483648}}", "postgres.backup.keep", "wants 2147483647 or less")
    yield added("postgres: {backup: {too_old_h: 2147483648}}", "postgres.backup.too_old_h", "wants 2147483647 or less")
    yield added("postgres: {backup: {too_old_h: 1d}}", "postgres.backup.too_old_h", "wants a whole number")
    yield added(
        "postgres: {backup: {schedule: '@weekly'}}", "postgres.backup.schedule", "up to 168 hours between two dumps"
    )
    yield added("postgres: {backup: {too_old_h: 24}}", "postgres.backup.too_old_h", "up to 24 hours between two dumps")
    indented = json.dumps(CA.replace("\n", "\n  "))
    yield added(MANAGED % ("h", indented), "postgres.managed.ca", "without spaces before its lines")
    key = "-----BEGIN PRIVATE KEY-----"
    yield added(MANAGED % ("h", json.dumps(f"{CA}{key}")), "postgres.managed.ca", "this has a private key")
    yield added("postgres: {kind: managed}", "postgres.managed", "needs to know where")
    yield added("postgres: {kind: mysql}", "postgres.kind", "wants 'instance'")
    yield added(MANAGED % ("h", "/etc/ca.crt"), "postgres.managed.ca", "wants certificates")
    for admin, says in [
        ("myuser", "is a role that the estate makes"),
        ("backup", "is a role that the estate makes"),
        ("pg_monitor", "are Postgres' own"),
        ("public", "are Postgres' own"),
    ]:
        yield added(MANAGED_AS % admin, "postgres.managed.admin", says)
    for stage, default in (("local", "the default"), ("prod", "the default of stage prod")):
        kind = "cluster" if stage == "prod" else "instance"
        managed = MANAGED_AS.replace("kind: managed, ", "") % "postgres"
        yield replaced(
            4,
            f"    stage: {stage}\n{managed}".rstrip(),
            "postgres.managed",
            f"is given, and kind is {kind} ({default})",
            below=1,
        )
    yield added("receivers: {name: a}", "receivers", "wants a list")
    yield added("receivers: [a]", "receivers.0", "wants a table")
    yield added("receivers: [{name: A, kind: webhook}]", "receivers.0.name", "wants 1 to 63 lower-case")
    yield added("receivers: [{name: a, kind: sms}]", "receivers.0.kind", "wants 'webhook'")
    yield added("receivers: [{name: a, kind: slack, channel: '{{ x'}]", "receivers.0.channel", "wants no {{")
    yield added("receivers: [{name: a, kind: slack}]", "receivers.0.channel", "goes with kind: slack")
    yield added(
        "receivers: [{name: a, kind: webhook, severities: [info]}]", "receivers.0.severities.0", "wants 'critical'"
    )
    yield added(
        "receivers: [{name: a, kind: webhook, severities: [critical, critical]}]", "receivers.0.severities", "each once"
    )
    yield added("receivers: [{name: a, kind: webhook, watchdog: n}]", "receivers.0.watchdog", "wants true or false")
    yield added(
        "receivers: [{name: a, kind: webhook}, {name: a, kind: webhook}]", "receivers.1.name", "is the name of another"
    )
    yield added("receivers: [{name: nobody, kind: webhook}]", "receivers.0.name", "one that every stack has")
    for address in (
        "a..b@x.com",
        ".a@x.com",
        "a@::1",
        "'a@[192.0.2.1]'",
        "a@192.0.2.1",
        "a@x.com.",
        "'Ops: team <a@x.com>'",
        "'Ops: a@x.com;'",
        "'Ops, team <a@x.com>'",
        "'a@x.com b@x.com'",
        "'a@x.com,'",
        "'a@x.com (Ada)'",
        "'\"a b\"@x.com'",
        "'=?utf-8?q?Ada?= <a@x.com>'",
        "'{{ .CommonLabels.team }}@x.com'",
        "''",
        "ä@x.com",
    ):
        yield added(MAIL % ("smtp", "a@b.example", address), "receivers.0.email.to", "wants ")
    yield added(MAIL % ("smtp", "'a@b.example, c@d.example'", "a@b.example"), "receivers.0.email.sender", "wants one")
    yield added(MAIL % ("'smtp:25'", "a@b.example", "c@d.example"), "receivers.0.email.host", "wants the name")
    yield added(MAIL % ("smtp", "estate", "c@d.example"), "receivers.0.email.sender", "wants addresses of mail")
    yield added(MAIL % ("smtp", "a@b.example", "c at d"), "receivers.0.email.to", "wants addresses of mail")
    yield added(CLIENT % ("hunter2", 7, "a"), "clients.0.secret_hash", "wants the whole hash")
    yield added(CLIENT % ("$argon2id$v=19$m=19456", 7, "a"), "clients.0.secret_hash", "wants the whole hash")
    for right, wrong in (
        ("v=19", "v=16"),
        ("t=2", "t=0"),
        ("t=2", "t=02"),
        ("t=2", "t=4294967296"),
        ("p=1", "p=0"),
        ("p=1", "p=16777216"),
        ("m=19456", "m=7"),
        ("m=19456", "m=2097152"),
        ("c2FsdHNhbHRzYWx0", "c2FsdA"),
        ("c2FsdHNhbHRzYWx0", "c2FsdHNhbHRzYWx0A"),
        ("aGFzaGhhc2hoYXNoaGFzaA", "aGFzaA"),
        ("aGFzaGhhc2hoYXNoaGFzaA", "aGFzaGhhc2hoYXNoaGFza"),
        ("aGFzaGhhc2hoYXNoaGFzaA", "aGFzaGhhc2hoYXNoaGFzaB"),
        ("argon2id", "argon2i"),
    ):
        given = HASH.replace(right, wrong)
        yield added(CLIENT % (f"'{given}'", 7, "a"), "clients.0.secret_hash", "wants the whole hash")
    yield added(
        f"clients: [{{id: operator, secret_hash: '{HASH}', user_id: 1, username: a}}]",
        "clients.0.id",
        "one that every stack has",
    )
    yield added(CLIENT % (f"'{HASH}'", "seven", "a"), "clients.0.user_id", "wants a whole number")
    yield added(CLIENT % (f"'{HASH}'", "9" * 400, "a"), "clients.0.user_id", "Pulumi keeps 15 digits")
    yield added(CLIENT % (f"'{HASH}'", 7, '"a\\0b"'), "clients.0.username", "wants a text of one line")
    yield added(
        f"clients: [{{id: '', secret_hash: '{HASH}', user_id: 1, username: a}}]", "clients.0.id", "wants a text"
    )


FILE = "the file"


def of_pulumis_keys() -> Iterator[Wrong]:
    for key in ("encryptionsalt", "encryptedkey", "secretsprovider"):
        for value, says in [
            ("[a]", "wants a text"),
            ("5", "wants a text"),
            ("{a: b}", "wants a text"),
            ("", "is left empty"),
        ]:
            yield Wrong(f"{HEAD}{key}: {value}\n", 8, key, says)
    for value in ("nonsense", "v1:AAAB", "v2:AAAB:v1:AAAB:AAAB", "v1:AA!B:v1:AAAB:AAAB"):
        yield Wrong(f"{HEAD}encryptionsalt: {value}\n", 8, "encryptionsalt", "is not what Pulumi has written")
    for value in ("dev", "5", "true", "[1]", "['']", ""):
        yield Wrong(f"{HEAD}environment: {value}\n", 8, "environment", "wants a list of names of environments")
    for value, says in [
        ("[a]", "the name of a context"),
        ("5", "the name of a context"),
        ("{a: b}", "the name of a context"),
        ("{secure: v1:a}", "the name of a context"),
        ('"a\\nb"', "the name of a context"),
        ("", "is left empty"),
        ("''", "is left empty"),
    ]:
        yield Wrong(f"{HEAD}  kubernetes:context: {value}\n", 8, "config.kubernetes:context", says)
    yield Wrong(f"{HEAD}  kubernetes:config:context: a\n", 8, "config.kubernetes:config:context", "other spelling")
    for directive in ("%YAML 1.1", "%YAML 1.2", "%TAG ! tag:example.com,2000:", "%FOO bar"):
        yield Wrong(f"{directive}\n---\n{HEAD}", 1, FILE, "has a directive")
        yield Wrong(f"# a comment\n\n{directive}\n---\n{HEAD}", 3, FILE, "has a directive")


def of_secrets() -> Iterator[Wrong]:
    for key, value, says in [
        ("foo", "1", "is not known (known are authoritySeed"),
        ("foo", "{secure: v1:a}", "is not known (known are"),
        ("setings", "{stage: dev}", "is not known"),
        ("postgresPasword", "{secure: v1:a}", "did you mean postgresPassword?"),
        ("receiver-pager", "{secure: v1:a}", "is not known"),
        ("postgresPassword", "hunter2", "is a secret that everyone can read"),
        ("tokenKey", "5", "is a secret that everyone can read"),
        ("operatorSecret", "", "is a secret that everyone can read"),
        ("operatorSecret", "[hunter2]", "is a secret that everyone can read"),
        ("operatorSecret", "{secure: }", "is a secret that everyone can read"),
        ("operatorSecret", "{secure: v1:a, clear: hunter2}", "is a secret that everyone can read"),
        ("previousTokenKey", "hunter2", "is a secret that everyone can read"),
    ]:
        yield Wrong(f"{HEAD}  estate:{key}: {value}\n", 8, f"config.estate:{key}", says)
    pager = f"{HEAD}    receivers: [{{name: pager, kind: webhook}}]\n"
    yield Wrong(f"{pager}  estate:receiver-pager: hunter2\n", 9, "config.estate:receiver-pager", "everyone can read")
    yield Wrong(
        f"{pager}  estate:receiver-pagr: {{secure: a}}\n",
        9,
        "config.estate:receiver-pagr",
        "did you mean receiver-pager?",
    )


def of_yaml() -> Iterator[Wrong]:
    yield Wrong("", 1, FILE, "holds nothing")
    yield Wrong("# a comment\n", 1, FILE, "holds nothing")
    yield Wrong("- a\n", 1, FILE, "Pulumi refuses what is no table")
    yield Wrong("hunter2\n", 1, FILE, "Pulumi refuses what is no table")
    yield Wrong("5\n", 1, FILE, "Pulumi refuses what is no table")
    yield Wrong("encryptedkey: AQICAHh\n", 1, "config", "is missing")
    yield Wrong("config: [a]\n", 1, "config", "Pulumi refuses what is no table")
    yield Wrong("config:\n", 1, "config", "is missing")
    yield Wrong("config: {}\n", 1, "estate:settings", "is missing")
    yield Wrong("config:\n  estate:settings:\n", 2, "estate:settings", "wants a table")
    yield Wrong("config:\n  estate:settings: hunter2\n", 2, "estate:settings", "wants a table")
    yield Wrong("config:\n  estate:settings: [a]\n", 2, "estate:settings", "wants a table")
    yield Wrong('config:\n  estate:settings: \'{"stage": "dev"}\'\n', 2, "estate:settings", "wants a table")
    yield Wrong("confg: {}\n", 1, "confg", "Pulumi ignores this key (did you mean config?)")
    yield Wrong(
        "config:\n  settings: {}\n",
        2,
        "config.settings",
        "wants namespace:name as its key (did you mean estate:settings?)",
    )
    for line in ("estate:config:settings: {stage: prod}", "estate:config:foo: 1"):
        yield Wrong(f"{HEAD}  {line}\n", 8, f"config.{line.partition(': ')[0]}", "is Pulumi's other spelling")
    for value in ("kubernetes", "{a: 1}", "[1]", ""):
        key = "pulumi:disable-default-providers"
        yield replaced(2, f"  {key}: {value}", f"config.{key}", "wants a list of names")
    yield Wrong("config:\n  estate:settings: {}\n  a b: 1\n", 3, "config.a key", "wants namespace:name as its key")
    yield Wrong(HEAD + "confg: {}\n", 8, "confg", "Pulumi ignores this key (did you mean config?)")
    yield Wrong(HEAD + "config: {}\n", 8, "config", "Pulumi refuses a key twice: it is in line 1 too")
    yield Wrong(HEAD + "    stage: dev\n", 8, "stage", "Pulumi refuses a key twice: it is in line 4 too")
    yield Wrong(HEAD + "---\nconfig: {}\n", 8, FILE, "Pulumi ignores all after the first document")
    yield Wrong(HEAD.encode("utf-16"), 1, FILE, "Pulumi refuses what is not in UTF-8")
    yield Wrong(HEAD.encode() + "    # für\n".encode("latin-1"), 8, FILE, "Pulumi refuses what is not in UTF-8")
    yield Wrong(HEAD + "\tbuild: true\n", 8, FILE, "a tab stands where spaces have to")
    yield Wrong(HEAD + "    build: [true\n", 9, FILE, "this is not YAML")
    yield Wrong(HEAD + "    build: 'hunter2\n", 9, FILE, "this is not YAML")
    yield Wrong(HEAD + "   build: true\n", 8, FILE, "this is not YAML")
    yield Wrong(HEAD + "    hunter2\n", 9, FILE, "this is not YAML")
    yield Wrong(HEAD + '    build: "\\UFFFFFFFF"\n', 8, FILE, "this is not YAML")
    yield Wrong(HEAD + "    build: tr\0ue\n", 8, FILE, "Pulumi refuses control characters")
    yield Wrong(HEAD + "    build: \x1b\n", 8, FILE, "Pulumi refuses control characters")
    yield Wrong(HEAD + "    images: " + "[" * 5000, 8, "images", "more than 16 tables and lists")
    yield Wrong("[" * 5000, 1, "0.0.0", "more than 16 tables and lists")
    yield Wrong("{a: " * 5000, 1, "a.a.a", "more than 16 tables and lists")
    yield added("images: {<<: {redis: 'redis:7'}}", "images", "has a merge key")
    yield added("images: *hunter2", "images", "is an alias of nothing before it")
    doubled = ", ".join(f"&a{number} [*a{number - 1}, *a{number - 1}]" for number in range(1, 60))
    yield added(f"bomb: [&a0 [0, 0], {doubled}]", FILE, "more than 100 aliases")
    few = ", ".join(f"&a{number} [*a{number - 1}, *a{number - 1}]" for number in range(1, 50))
    yield added(f"bomb: [&a0 [0, 0], {few}]", "bomb", "is not known")
    yield added('build: "a\\/b"', "build", "Pulumi refuses the escape")
    yield Wrong(HEAD + "    build:\ttrue\n", 8, FILE, "readers of YAML refuse it")
    yield added("images: &a {redis: *a}", "images.redis", "is an alias of nothing before it")
    for tag in (
        "!!python/name:os.system",
        "!!python/object/apply:os.system [id]",
        "!hunter2",
        "!!str",
        "!!set",
        "!!timestamp",
        "!",
    ):
        yield added(f"build: {tag}{'' if ' ' in tag else ' x'}", "build", "has a tag, which Pulumi ignores")
    yield added('build: "\\ud83d"', "build", "Pulumi refuses an escape for half a character")
    yield Wrong(HEAD + "    # \u2028\x85\n    build: 1\n", 9, "build", "wants true or false")
    yield added("1: 2", "estate:settings", "has a key that is no text")
    yield added("[a]: 2", "estate:settings", "has a key that is no text")
    yield added("? {a: b}\n", "estate:settings", "has a key that is no text")
    yield added("~: 2", "estate:settings", "has a key that is no text")
    yield added("on: 2", "estate:settings", "some readers of YAML")
    yield added("'': 2", "a key", "is not known")
    for value, says in [
        ("010", "different numbers"),
        ("0o10", "different numbers"),
        ("0x1f", "different numbers"),
        ("0b11", "different numbers"),
        ("1_000", "different numbers"),
        ("1e3", "different numbers"),
        (".5e3", "different numbers"),
        ("-0X1F", "different numbers"),
        ("0B1", "different numbers"),
        ("0O7", "different numbers"),
        ("190:20:30", "different numbers"),
        (".inf", "not finite"),
        ("-.INF", "not finite"),
        (".NaN", "not finite"),
        ("9" * 5000, "Pulumi keeps 15 digits"),
        ("2026-01-31", "for a date"),
        ("2026-1-3", "for a date"),
        ("2026-99-99", "for a date"),
        ("2026-01-31 12:00:00", "for a date"),
        ("On", "some readers of YAML"),
        ("NO", "some readers of YAML"),
        ("=", "different things"),
        ("<<", "different things"),
    ]:
        yield added(f"ingress: {{port: {value}}}", "ingress.port", says)


WRONG_VALUES = [*of_quantities(), *of_services(), *of_places(), *of_images_and_names(), *of_data_and_people()]
WRONG = [*WRONG_VALUES, *of_yaml(), *of_pulumis_keys(), *of_secrets()]
