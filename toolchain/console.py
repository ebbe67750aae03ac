"""What a person sees while the toolchain works: short lines with elapsed time, and one clear line on failure."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path

HEARTBEAT_S = 15.0
"""No step is silent for longer than this."""
DEVIATION = 3
"""Exit code when what was asked about is not as it should be, as `systemctl status` has it; 1 is for what could not be asked."""


class ToolchainError(Exception):
    """What happened, where, and the next step, in one message for a person."""


def say(message: str) -> None:
    """Print what the command was run for, which may be captured: standard output."""
    print(message, flush=True)


def report(message: str) -> None:
    """Print how the command fares, its progress and its errors: standard error."""
    print(message, file=sys.stderr, flush=True)


@contextmanager
def step(name: str) -> Generator[None]:
    """Announce `name` when it takes long, and its elapsed time when it is done.

    A failed step prints nothing more: the error says what happened.
    """
    started = time.monotonic()
    finished = threading.Event()

    def beat() -> None:
        while not finished.wait(HEARTBEAT_S):
            report(f"  {name} … {time.monotonic() - started:.0f} s")

    beats = threading.Thread(target=beat, daemon=True)
    beats.start()
    try:
        yield
    finally:
        finished.set()
        beats.join()
    report(f"  {name} ✓ {time.monotonic() - started:.1f} s")


@contextmanager
def timed() -> Generator[None]:
    """Say in the end how long all of it took."""
    started = time.monotonic()
    yield
    report(f"({time.monotonic() - started:.1f} s)")


def confirm(what: str, name: str, again: str) -> None:
    """Return once somebody agrees: by FORCE=1, or by a name on a terminal.

    Args:
        what: will happen; whole sentences.
        name: is to be typed.
        again: the command that says that it is meant.

    Raises:
        ToolchainError: nobody agrees.
    """
    if os.environ.get("FORCE") == "1":
        return
    if not sys.stdin.isatty():
        raise ToolchainError(f"{what} Say that this is meant: {again}")
    report(f"{what}\nType {name} to go on:")
    if input().strip() != name:
        raise ToolchainError("nothing was changed")


def wait_until(condition: Callable[[], bool], what: str, deadline_s: float, every_s: float = 0.25) -> None:
    """Return once `condition()` is true.

    Raises:
        ToolchainError: `what` did not happen within `deadline_s` seconds.
    """
    end = time.monotonic() + deadline_s
    while not condition():
        if time.monotonic() > end:
            raise ToolchainError(f"{what} did not happen within {deadline_s:.0f} s")
        time.sleep(every_s)


def run_logged(
    command: list[str], log: Path, what: str, env: dict[str, str] | None = None, cwd: Path | None = None
) -> None:
    """Run `command` with its output in `log`.

    Raises:
        ToolchainError: it failed; the message ends with the last lines of the log.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("w") as output:
        done = subprocess.run(
            command, stdout=output, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, env=env, cwd=cwd, check=False
        )
    if done.returncode != 0:
        raise ToolchainError(f"{what} failed (exit {done.returncode}); {log} ends with:\n{last_lines(log)}")


def last_lines(path: Path, count: int = 12) -> str:
    """The last `count` lines of a log, indented, or a word on why there are none."""
    try:
        lines = path.read_text(errors="replace").splitlines()[-count:]
    except OSError as error:
        return f"    (no log: {error})"
    return "\n".join(f"    {line[:300]}" for line in lines) or "    (empty)"


def end_with_143(_signal: int, _frame: object) -> None:
    sys.exit(143)


def run_command(main: Callable[[], None]) -> None:
    """Run a command of the toolchain: an error ends it with one clear line on standard error and exit code 1, Ctrl-C with 130."""
    signal.signal(signal.SIGTERM, end_with_143)
    before = signal.getsignal(signal.SIGINT)
    try:
        if before is signal.SIG_DFL:  # as toolchain/__init__.py has left it
            signal.signal(signal.SIGINT, signal.default_int_handler)
        main()
    except ToolchainError as error:
        fail(f"{error}")
    except BrokenPipeError:  # whoever read our output has left
        drop_output()
        sys.exit(141)
    except OSError as error:
        drop_output()
        where = f" ({error.filename})" if error.filename else ""
        fail(
            f"{os.strerror(error.errno) if error.errno else error}{where}; free what is missing and run the command again"
        )
    except KeyboardInterrupt:
        report("interrupted: run the same command again to go on from here")
        sys.exit(130)
    finally:
        signal.signal(signal.SIGINT, before)


def fail(message: str) -> None:
    """End the command with an error."""
    report(f"error: {message}")
    sys.exit(1)


def drop_output() -> None:
    """Give up what standard output does not take: Python would try again at its end, and complain."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
