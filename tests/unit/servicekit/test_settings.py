import errno
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
import yaml
from api_gateway import main as gateway
from api_gateway.settings import GatewaySettings
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from servicekit import logs
from servicekit.serving import serve
from servicekit.settings import SettingsError, annotation, keys, load, load_or_exit, named, variable
from user_service import main as users
from user_service.settings import UserSettings

NAMED = {"APP_SERVICE_NAME": "user-service"}


def write(folder: Path, text: str) -> tuple[Path, ...]:
    (folder / "config.yaml").write_text(text)
    return (folder,)


def test_the_defaults_are_the_references(tmp_path: Path) -> None:
    settings = load(UserSettings, NAMED, (tmp_path,))
    assert settings.server.port == 8080
    assert settings.database.host == "localhost"


def test_the_environment_wins_over_the_file_and_the_file_over_the_defaults(tmp_path: Path) -> None:
    folders = write(tmp_path, "server: {port: 9000}\ndatabase: {host: file}\nservice: {name: x}\n")
    settings = load(UserSettings, {"APP_DATABASE_HOST": "env"}, folders)
    assert (settings.server.port, settings.database.host) == (9000, "env")


def test_the_first_file_found_is_the_one(tmp_path: Path) -> None:
    first, second = tmp_path / "a", tmp_path / "b"
    for folder, port in ((first, 1), (second, 2)):
        folder.mkdir()
        write(folder, f"server: {{port: {port}}}\nservice: {{name: x}}\n")
    assert load(UserSettings, {}, (tmp_path / "none", first, second)).server.port == 1


def test_a_nested_key_is_reached_from_the_environment(tmp_path: Path) -> None:
    environment = NAMED | {"APP_SERVICE_REGISTRY_ADDRESS": "consul:8500", "APP_DATABASE_POOL_SIZE": "7"}
    settings = load(UserSettings, environment, (tmp_path,))
    assert (settings.service.registry.address, settings.database.pool.size) == ("consul:8500", 7)


def test_another_key_of_a_table_leaves_the_defaults_of_the_service(tmp_path: Path) -> None:
    settings = load(UserSettings, {"APP_SERVICE_ADDRESS": "10.0.0.1"}, (tmp_path,))
    assert (settings.service.name, settings.service.address) == ("user-service", "10.0.0.1")


def test_a_secret_comes_from_a_file(tmp_path: Path) -> None:
    secret = tmp_path / "password"
    secret.write_text("hunter2\n")
    settings = load(UserSettings, NAMED | {"APP_DATABASE_PASSWORD_FILE": str(secret)}, ())
    assert settings.database.password.get_secret_value() == "hunter2"
    assert "hunter2" not in repr(settings)


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({"APP_SERVER_PORT": "http"}, r"server.port: .*unable to parse string as an integer \(from APP_SERVER_PORT\)$"),
        (
            {"APP_SERVER_PORT": "70000"},
            r"server.port: .*less than or equal to 65535, not '70000' \(from APP_SERVER_PORT\)$",
        ),
        (
            {"APP_DATABASE_PASSWORD_FILE": "/nowhere"},
            "^APP_DATABASE_PASSWORD_FILE: the file that it names cannot be read: No such file or directory$",
        ),
    ],
)
def test_a_wrong_value_is_named_with_its_key_and_source(environment: dict[str, str], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        load(UserSettings, NAMED | environment, ())


def test_an_unknown_key_in_the_file_is_named_with_the_file(tmp_path: Path) -> None:
    folders = write(tmp_path, "server: {prot: 1}\nservice: {name: x}\n")
    with pytest.raises(SettingsError, match=r"server.prot: .*did you mean server.port\? \(from .*config.yaml\)"):
        load(UserSettings, {}, folders)


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("APP_DATABSE_HOST", "APP_DATABASE_HOST"),
        ("APP_DATABASE_PASWORD_FILE", "APP_DATABASE_PASSWORD_FILE"),
        ("APP_SERVER_PORTS", "APP_SERVER_PORT"),
    ],
)
def test_a_variable_that_names_no_setting_is_refused(name: str, near: str) -> None:
    with pytest.raises(SettingsError, match=f"^{name}: there is no such setting; did you mean {near}\\?$"):
        load(UserSettings, NAMED | {name: "hunter2"}, ())


SECRET = "postgres://u:hunter2@h/db"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("database:", "database: wants settings below it"),
        (f"database: {SECRET}", "database: wants settings below it"),
        (f"database: [{SECRET}]", "database: wants settings below it"),
        ("database: {pool: 5}", "database.pool: wants settings below it"),
        (f"database: {{port: '{SECRET}'}}", "database.port: input should be"),
        (f"server: {{host: ['{SECRET}']}}", "server.host: input should be"),
        (f"server: {{host: {{a: '{SECRET}'}}}}", "server.host: input should be"),
        (f"tracing: {{endpoint: '{SECRET}'}}", "tracing.endpoint: value error, wants http://host"),
        (f"database: {{{SECRET}: 1}}", "database"),
        (f"'{SECRET}'", "holds no table"),
        ("- hunter2", "holds no table"),
        ("0", "holds no table"),
        ("false", "holds no table"),
        ("database: {password: hunter2, password: hunter2}", "line 1, column 31: a key is there twice"),
        ("server: {port: 1}\nserver: {}", "line 2, column 1: a key is there twice"),
        ("database: {password: *hunter2}", "found undefined alias this"),
        ("database: {password: !hunter2 x}", "could not determine a constructor"),
        ("database:\n\tpassword: hunter2", "line 2, column 1"),
        ("database: {password: hunter2", "is no YAML in line"),
        ("server: {port: !!bool hunter2}", "is no YAML"),
        ("server: {port: 2026-99-99}", "is no YAML"),
        ("[" * 5000, "is no YAML"),
        ("1: 2", "1: "),
        ('"a\\nb": 1', "a key: there is no such setting"),
    ],
)
def test_a_wrong_file_is_one_line_with_nothing_secret(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], text: str, said: str
) -> None:
    refused = refusal(tmp_path, monkeypatch, capsys, text.encode())
    assert said in refused
    assert "hunter2" not in refused


def test_a_file_in_latin_1_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "is no YAML in UTF-8" in refusal(tmp_path, monkeypatch, capsys, "server: {host: h\xf6st}".encode("latin-1"))


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(
    st.one_of(
        st.binary(max_size=40),
        st.text("{}[]:,-?&*!|>'\"%@` \t\n#ab1~<=.", max_size=40).map(str.encode),
        st.recursive(st.one_of(st.none(), st.text(max_size=5), st.integers(), st.floats(), st.dates()),
                     lambda inner: st.dictionaries(st.sampled_from(["database", "server", "port", "pool", "auth"]), inner))
        .map(lambda values: yaml.safe_dump(values).encode()),
    )
)  # fmt: skip
def test_any_file_is_read_or_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "config.yaml").write_bytes(content)
    with suppress(SettingsError):
        load(UserSettings, {"APP_DATABASE_HOST": "h", "APP_DATABASE_POOL_SIZE": "1"}, (tmp_path,))


def refusal(folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], content: bytes) -> str:
    """Return the one line with which a service that has a wrong file exits."""
    (folder / "config.yaml").write_bytes(content)
    monkeypatch.setattr(load, "__defaults__", ((folder,),))
    with pytest.raises(SystemExit) as ended:
        load_or_exit(UserSettings, {"APP_DATABASE_POOL_SIZE": "1"})
    line = capsys.readouterr().err
    assert ended.value.code == 2
    assert line.startswith("error: ")
    assert line.count("\n") == 1
    return line


def test_a_wrong_secret_is_not_shown() -> None:
    with pytest.raises(SettingsError) as refused:
        load(UserSettings, NAMED | {"APP_DATABASE_PASSWORD": "hunter2", "APP_DATABASE_PORT": "x"}, ())
    assert "hunter2" not in str(refused.value)


def test_the_configuration_is_printed_with_secrets_masked(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        load_or_exit(UserSettings, {"APP_DATABASE_PASSWORD": "hunter2", "APP_SERVER_PORT": "9000"}, ["--print-config"])
    printed = capsys.readouterr().out
    assert ended.value.code == 0
    assert "port: 9000" in printed
    assert "password: '**********'" in printed
    assert "hunter2" not in printed


URL = "http://u:hunter2@h:1"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("APP_AUTH_JWKS_URL", URL),
        ("APP_AUTH_JWKS_URL", "http://["),
        ("APP_TRACING_ENDPOINT", URL),
        ("APP_TRACING_ENDPOINT", "http://h:hunter2"),
        ("APP_SERVICE_REGISTRY_ADDRESS", "consul"),
        ("APP_SERVICE_REGISTRY_ADDRESS", "consul:hunter2"),
        ("APP_SERVICE_REGISTRY_ADDRESS", URL),
        ("APP_SERVICE_NAME", ""),
        ("APP_SERVICE_NAME", URL),
        ("APP_SERVICE_ADDRESS", URL),
        ("APP_SERVER_HOST", ""),
        ("APP_SERVER_HOST", "no such host"),
        ("APP_SERVER_HOST", "\u00fc..x"),
        ("APP_SERVER_HOST", URL),
        ("APP_SERVER_PORT", "hunter2"),
        ("APP_SERVER_PORT", "true"),
        ("APP_DATABASE_HOST", URL),
        ("APP_DATABASE_STATEMENT_TIMEOUT_S", "inf"),
        ("APP_DATABASE_CONNECT_TIMEOUT_S", "1e300"),
        ("APP_CACHE_HOST", URL),
        ("APP_CACHE_TTL_S", "99999999999999999999"),
    ],
)
def test_a_wrong_variable_is_named_and_its_value_is_not_shown(name: str, value: str) -> None:
    with pytest.raises(SettingsError) as refused:
        load(UserSettings, {"APP_AUTH_JWKS_ISSUER": "i", name: value}, ())
    assert f"(from {name})" in str(refused.value)
    assert "hunter2" not in str(refused.value)


@pytest.mark.parametrize("value", ["hunter2", "/hunter2/\nx", "hunter2" * 1000])
def test_a_secret_in_place_of_its_file_is_not_shown(value: str) -> None:
    with pytest.raises(SettingsError, match=r"^APP_DATABASE_PASSWORD_FILE: the file that it names") as refused:
        load(UserSettings, {"APP_DATABASE_PASSWORD_FILE": value}, ())
    assert "hunter2" not in str(refused.value)


FILES: dict[str, tuple[Callable[[], None], tuple[str, ...]]] = {
    f"{main.__module__}: {'.'.join(key)}": (main, key)
    for main, model in ((gateway.main, GatewaySettings), (users.main, UserSettings))
    for key in keys(model)
    if annotation(model, key) in (Path, Path | None)
}


@pytest.mark.parametrize("setting", FILES)
@pytest.mark.parametrize(
    "value", ["hunter2", "./hunter2", "hunter2/x", "hunter2" * 100, "/x+hunter2==", "a b/hunter2", "."]
)
def test_a_secret_in_place_of_a_path_is_not_shown_and_its_key_is(
    setting: str,
    value: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    main, key = FILES[setting]
    (tmp_path / "routes.json").write_text('{"routes": [{"prefix": "/a", "service": "s"}]}')
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["service"])
    monkeypatch.setattr(logs, "configure", print)  # in place of the whole process' log
    monkeypatch.setenv("APP_AUTH_REQUIRED", "false")
    if main is gateway.main:
        monkeypatch.setenv("APP_ROUTES_FILE", str(tmp_path / "routes.json"))
    monkeypatch.setenv(variable(key), value)
    with pytest.raises(SystemExit) as ended:
        main()
    line = capsys.readouterr().err
    assert ended.value.code == 2
    assert line.startswith(f"error: {'.'.join(key)}: the file that it names ")
    assert "hunter2" not in line


@pytest.mark.parametrize("path", ["/", "/etc/app/routes.json", "../routes.json", "/a-b_c/..data/1.0"])
def test_a_path_is_shown(path: str) -> None:
    assert named("routes.file", Path(path)) == f"routes.file: {path}"


@pytest.mark.parametrize("value", ["x", "10.0.0.0/8, 300.0.0.0/8", "10.0.0.1/8", "10.0.0.0/8;10.1.0.0/16", URL])
def test_trusted_networks_that_are_none_are_named_with_their_source(value: str) -> None:
    with pytest.raises(SettingsError, match=r"^routes.trusted: .*\(from APP_ROUTES_TRUSTED\)$") as refused:
        load(GatewaySettings, {"APP_ROUTES_TRUSTED": value}, ())
    assert value not in str(refused.value).removesuffix("(from APP_ROUTES_TRUSTED)").split("such as")[0].split()


@pytest.mark.parametrize("key", ["server: {port", "database: {port", "database: {statement_timeout_s", "cache: {ttl_s"])
def test_a_boolean_is_no_number(tmp_path: Path, key: str) -> None:
    with pytest.raises(SettingsError, match="wants a number"):
        load(UserSettings, {}, write(tmp_path, f"{key}: true}}\n"))


def folder(path: Path) -> None:
    path.mkdir()


def pipe(path: Path) -> None:
    os.mkfifo(path)


def link_to_nowhere(path: Path) -> None:
    path.symlink_to(path.with_name("nothing"))


def link_to_itself(path: Path) -> None:
    path.symlink_to(path)


@pytest.mark.parametrize("make", [folder, pipe, link_to_nowhere, link_to_itself])
def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path, make: Callable[[Path], None]) -> None:
    make(tmp_path / "config.yaml")
    with pytest.raises(SettingsError, match=r"config\.yaml (is no regular file|cannot be read)"):
        load(UserSettings, {}, (tmp_path,))


def test_a_folder_without_permission_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(path: Path) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))

    monkeypatch.setattr(Path, "lstat", refused)  # permissions do not restrict root, who may run this
    with pytest.raises(SettingsError, match=r"config\.yaml cannot be read: Permission denied"):
        load(UserSettings, {}, (tmp_path,))


WITHOUT_HOME = """
import os, pwd
def unknown(uid): raise KeyError(uid)
pwd.getpwuid = unknown
from servicekit.settings import load
from user_service.settings import UserSettings
print(load(UserSettings, {}).server.port)
"""


def test_a_user_that_is_in_no_list_of_users_starts_a_service(tmp_path: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "HOME"}
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_HOME], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False, timeout=120
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, "8080\n"), done.stderr


@pytest.mark.parametrize("argument", ["--print-confg", "--help", "x", "--hunter2"])
def test_an_unknown_argument_ends_the_start_with_the_usage(argument: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        load_or_exit(UserSettings, {}, ["--print-config", argument])
    assert ended.value.code == 2
    assert capsys.readouterr() == ("", "usage: python -m user_service [--print-config]\n")


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "hunter2.invalid"])
def test_a_port_that_cannot_be_had_ends_the_start_with_its_key(host: str, capsys: pytest.CaptureFixture[str]) -> None:
    async def nothing() -> None:
        pass

    async def app(*_: object) -> None:
        pass

    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(SystemExit) as ended:
        serve(app, host, taken.getsockname()[1], nothing, nothing)
    line = capsys.readouterr().err
    assert ended.value.code == 2
    assert line.startswith("error: server.port: cannot listen on port")
    assert "hunter2" not in line, "it may be a secret in the wrong place"
    assert line.count("\n") == 1
