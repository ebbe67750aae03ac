"""Ctrl-C at any time, and standard output that accepts no data: a command ends with at most one line, and no traceback."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from estate.core.console import end_with_143
from estate.core.paths import PROJECT
from estate.stack.model import Stack
from estate.stack.target import Target
from infra.settings.load import parse
from tests.support.minimum import MINIMUM

COMMANDS = [
    ["--help"], ["up"], ["preview"], ["preview", "--markdown"], ["down"], ["status"], ["urls"], ["logs"], ["rollback"], ["drift"],
    ["dashboard"], ["render"], ["policy", "check"], ["backup", "create"], ["restore"], ["token"], ["keys", "rotate"],
    ["db-password", "rotate"], ["secret", "set", "operatorSecret"],
]  # fmt: skip
"""Commands that import a module of their own, and end at the name of their stack."""
SITE = """
import os, signal, sys

class Interrupt:
    left = None

    @classmethod
    def find_spec(cls, name, path=None, target=None):
        if name == "estate.cli" and cls.left is None:
            cls.left = int(os.environ["INTERRUPT_AFTER"])
        if cls.left is not None:
            if cls.left == 0:
                os.kill(os.getpid(), signal.SIGINT)
            cls.left -= 1

sys.meta_path.insert(0, Interrupt)
"""
"""A sitecustomize.py with which Python interrupts itself after a number of imports of ours."""


def ended_by_an_interrupt(code: int, said: str) -> bool:
    return code in (-signal.SIGINT, 130) and "Traceback" not in said


def interrupted(folder: Path, after: int, *words: str) -> "subprocess.CompletedProcess[str]":
    """Run Python, which interrupts itself after this number of imports, counted from the first one of ours."""
    (folder / "sitecustomize.py").write_text(SITE)
    environment = os.environ | {"PYTHONPATH": str(folder), "INTERRUPT_AFTER": str(after)}
    return subprocess.run(
        [sys.executable, *words], cwd=PROJECT, env=environment, capture_output=True, text=True, timeout=60, check=False
    )


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_an_interrupt_while_a_command_is_imported_ends_it_quietly(words: list[str], tmp_path: Path) -> None:
    stack = [] if words == ["--help"] else ["--stack", "no-stack"]
    for after in (0, int(random.expovariate(1 / 40))):
        done = interrupted(tmp_path, after, "-m", "estate", *words, *stack)
        ended = ended_by_an_interrupt(done.returncode, done.stderr)
        assert ended or (after > 0 and done.returncode == len(stack) // 2), (after, done)


def test_an_interrupt_ends_a_command_that_python_runs_as_a_module(tmp_path: Path) -> None:
    done = interrupted(tmp_path, 0, "-m", "estate", "status", "--stack", "no-stack")
    assert (done.returncode, done.stderr) == (-signal.SIGINT, "")


def test_an_interrupt_at_any_time_ends_a_command_quietly() -> None:
    command = [sys.executable, "-c", WAITING, "-m"]
    for _ in range(4):
        with subprocess.Popen(
            command, cwd=PROJECT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as running:
            assert running.stdout
            assert running.stdout.readline() == "started\n"
            delay_s = random.uniform(0, 1.5)  # noqa: S311 - a time
            time.sleep(delay_s)
            running.send_signal(signal.SIGINT)
            _, said = running.communicate(timeout=60)
        assert ended_by_an_interrupt(running.returncode, said), (delay_s, said)


WAITING = """
import sys
sys.argv = ["-m"]
import estate
print("started", flush=True)
import time
from estate.core import console
from estate.ops import update
console.run_command(lambda: time.sleep(30))
"""


@pytest.mark.parametrize(
    ("before", "handler"),
    [
        ("sys.argv = ['-m']", "Handlers.SIG_DFL"),
        ("sys.argv = ['-m']; signal.signal(signal.SIGINT, signal.SIG_IGN)", "Handlers.SIG_IGN"),
        ("sys.argv = ['pytest']", "default_int_handler"),
    ],
    ids=["command", "ignoring", "program"],
)
def test_only_a_command_that_heeds_interrupts_ends_by_them(before: str, handler: str) -> None:
    code = f"import signal, sys; {before}; import estate; print(repr(signal.getsignal(signal.SIGINT)))"
    done = subprocess.run([sys.executable, "-c", code], cwd=PROJECT, capture_output=True, text=True, check=True)
    assert handler in done.stdout


@pytest.mark.parametrize(
    "pulumi", ["kill -INT $PPID; kill -INT $$", "kill -INT $PPID; exit 255", "kill -INT $PPID; exit 1"]
)
def test_an_interrupt_while_pulumi_runs_is_no_failure_of_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, pulumi: str
) -> None:
    program = tmp_path / "pulumi"
    program.write_text(f"#!/bin/sh\n{pulumi}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    stack = Stack("dev", parse(MINIMUM, "here"), Target(tmp_path, "context", dict(os.environ), embedded=False))
    with pytest.raises(KeyboardInterrupt):
        stack.pulumi_shown("preview")


def test_an_output_that_takes_nothing_is_one_line() -> None:
    code = "from estate.core.console import run_command, say; run_command(lambda: say('result'))"
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-c", code], cwd=PROJECT, stdout=full, stderr=subprocess.PIPE, text=True, check=False
        )
    assert (done.returncode, len(done.stderr.splitlines())) == (1, 1), done.stderr
    assert done.stderr.startswith("error: No space left on device")


def test_a_reader_that_has_left_is_no_error() -> None:
    code = "from estate.core.console import run_command, say; run_command(lambda: [say('result' * 100) for _ in range(10000)])"
    with subprocess.Popen(
        [sys.executable, "-c", code], cwd=PROJECT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as running:
        assert running.stdout
        assert running.stderr
        running.stdout.close()
        assert running.stderr.read() == ""
    assert running.returncode == 141


PREVIEWING = """
import os, sys
from pathlib import Path
from infra.settings.load import parse
from tests.support.minimum import MINIMUM
from estate.core.console import run_command
from estate.stack.model import Stack
from estate.stack.target import Target
stack = Stack("dev", parse(MINIMUM, "here"), Target(Path("/"), "context", dict(os.environ), embedded=False))
run_command(lambda: stack.pulumi("preview"))
"""
ENDING = "trap 'echo once >> {folder}/ended; exit 255' INT; echo > {folder}/started; while :; do sleep 0.05; done"


@pytest.mark.parametrize(("group", "number", "code"), [(True, signal.SIGINT, 130), (False, signal.SIGTERM, 143)])
def test_pulumi_ends_by_itself_where_it_is_waited_for_no_longer(
    tmp_path: Path, number: signal.Signals, code: int, *, group: bool
) -> None:
    program = tmp_path / "pulumi"
    program.write_text(f"#!/bin/sh\n{ENDING.format(folder=tmp_path)}\n")
    program.chmod(0o755)
    environment = os.environ | {"PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}"}
    with subprocess.Popen(
        [sys.executable, "-c", PREVIEWING], cwd=PROJECT, env=environment, stderr=subprocess.PIPE, start_new_session=True
    ) as running:
        while not (tmp_path / "started").exists():
            time.sleep(0.05)
        (os.killpg if group else os.kill)(running.pid, number)
        running.communicate(timeout=60)
    assert running.returncode == code
    assert (tmp_path / "ended").read_text() == "once\n"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_while_pulumi_is_started_ends_pulumi(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, number: signal.Signals
) -> None:
    started: list[subprocess.Popen[str]] = []

    class Interrupted(subprocess.Popen[str]):
        def __init__(self, *words: object, **options: object) -> None:
            super().__init__(*words, **options)  # pyright: ignore[reportCallIssue, reportArgumentType]
            started.append(self)
            signal.raise_signal(number)

    program = tmp_path / "pulumi"
    program.write_text("#!/bin/sh\ntrap 'exit 255' INT; while :; do sleep 0.05; done\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setattr(subprocess, "Popen", Interrupted)
    monkeypatch.setattr("estate.stack.model.HEARD_S", 0.0)
    stack = Stack("dev", parse(MINIMUM, "here"), Target(tmp_path, "context", dict(os.environ), embedded=False))
    before = signal.signal(signal.SIGTERM, end_with_143)
    try:
        with pytest.raises((KeyboardInterrupt, SystemExit)):
            stack.pulumi("preview")
    finally:
        signal.signal(signal.SIGTERM, before)
    assert [process.poll() is not None for process in started] == [True]


UPDATING = PREVIEWING.replace('stack.pulumi("preview")', 'stack.pulumi_shown("up")')


def test_who_reads_no_more_does_not_end_pulumi(tmp_path: Path) -> None:
    program = tmp_path / "pulumi"
    program.write_text(f"#!/bin/sh\nfor i in $(seq 5000); do echo line $i; done; echo done > {tmp_path}/done\n")
    program.chmod(0o755)
    environment = os.environ | {"PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}"}
    with subprocess.Popen(
        [sys.executable, "-c", UPDATING], cwd=PROJECT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as running:
        assert running.stdout
        assert running.stdout.readline() == b"line 1\n"
        running.stdout.close()
        assert running.stderr
        said = running.stderr.read()
    assert (running.returncode, said) == (141, b"")
    assert (tmp_path / "done").exists()
