"""Console output: short lines with elapsed time, and one clear line on failure."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from infra.errors import ProjectError

HEARTBEAT_S = 15.0
"""Seconds between the progress lines of a step."""
DEVIATION = 3
"""Exit code of a check that found a deviation (as in `systemctl status`); 1 means that the check failed to run."""


class EstateError(Exception):
    """Error with a message for the user: what happened, where, and the next step."""


class UsageError(EstateError):
    """Error of a value that was given with the command: no such stack, service or name, or a malformed value."""


def say(message: str) -> None:
    """Print the result of the command, which may be captured, to standard output."""
    print(message, flush=True)


def report(message: str) -> None:
    """Print the progress and the errors of the command to standard error."""
    print(message, file=sys.stderr, flush=True)


@contextmanager
def step(name: str) -> Generator[None]:
    """Report that `name` is in progress when it takes long, and its elapsed time when it is done.

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
    """Report the total elapsed time at the end."""
    started = time.monotonic()
    yield
    report(f"({time.monotonic() - started:.1f} s)")


def confirm(what: str, name: str, again: str, *, agreed: bool) -> None:
    """Require confirmation: given with the command, or as a name typed on a terminal.

    Args:
        what: the consequences, in whole sentences.
        name: the name to type.
        again: the command that confirms.
        agreed: whether it was given with the command.

    Raises:
        EstateError: not confirmed.
    """
    if agreed:
        return
    if not sys.stdin.isatty():
        raise EstateError(f"{what} Say that this is meant: {again}")
    report(f"{what}\nType {name} to go on:")
    if input().strip() != name:
        raise EstateError("nothing was changed")


def wait_until(condition: Callable[[], bool], what: str, deadline_s: float, every_s: float = 0.25) -> None:
    """Wait until `condition()` is true.

    Raises:
        EstateError: `what` did not happen within `deadline_s` seconds.
    """
    end = time.monotonic() + deadline_s
    while not condition():
        if time.monotonic() > end:
            raise EstateError(f"{what} did not happen within {deadline_s:.0f} s")
        time.sleep(every_s)


def run_logged(
    command: list[str], log: Path, what: str, env: dict[str, str] | None = None, cwd: Path | None = None
) -> None:
    """Run `command` with its output in `log`.

    Raises:
        EstateError: it failed; with the last lines of the log.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("w") as output:
        done = subprocess.run(
            command, stdout=output, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, env=env, cwd=cwd, check=False
        )
    if done.returncode != 0:
        raise EstateError(f"{what} failed (exit {done.returncode}); {log} ends with:\n{last_lines(log)}")


def last_lines(path: Path, count: int = 12) -> str:
    """Return the last `count` lines of a log, indented, or the reason that there are none."""
    try:
        lines = path.read_text(errors="replace").splitlines()[-count:]
    except OSError as error:
        return f"    (no log: {error})"
    return "\n".join(f"    {line[:300]}" for line in lines) or "    (empty)"


def end_with_143(_signal: int, _frame: object) -> None:
    sys.exit(143)


@contextmanager
def signals_held() -> Generator[None]:
    """Hold SIGINT and SIGTERM that arrive within a block until it has ended."""
    arrived: list[int] = []
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(number, lambda number, _frame: arrived.append(number)) for number in numbers]
    try:
        yield
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)
        for number in arrived:
            signal.raise_signal(number)


def run_command(main: Callable[[], None]) -> None:
    """Run a command; an error ends it with one clear line on standard error.

    The exit code is 2 for a value that is refused, 1 for any other error, 130 after Ctrl-C.
    """
    signal.signal(signal.SIGTERM, end_with_143)
    before = signal.getsignal(signal.SIGINT)
    try:
        if before is signal.SIG_DFL:  # set by estate/__init__.py
            signal.signal(signal.SIGINT, signal.default_int_handler)
        main()
    except (EstateError, ProjectError) as error:
        fail(f"{error}", 2 if isinstance(error, UsageError) else 1)
    except BrokenPipeError:  # the reader of our output has closed it
        drop_output()
        sys.exit(141)
    except OSError as error:
        drop_output()
        where = f" ({error.filename})" if error.filename else ""
        fail(
            f"{os.strerror(error.errno) if error.errno else error}{where}; free what is missing and run the command again"
        )
    except KeyboardInterrupt:
        report("interrupted: the same command, run again, goes on from here")
        sys.exit(130)
    finally:
        signal.signal(signal.SIGINT, before)


def fail(message: str, code: int = 1) -> None:
    """Exit with an error."""
    report(f"error: {message}")
    sys.exit(code)


@contextmanager
def passed_on(lines: IO[str] | None) -> Generator[Callable[[], bool]]:
    """Print the output lines of a program as they arrive; yield a function that returns whether our own output is still read.

    Args:
        lines: the program's output; None if the program prints it itself.
    """
    unread = threading.Event()

    def copy() -> None:
        for line in lines or ():
            if not unread.is_set():
                try:
                    say(line.removesuffix("\n"))
                except OSError:
                    unread.set()
                    drop_output()

    copying = threading.Thread(target=copy, daemon=True)
    copying.start()
    yield lambda: not unread.is_set()
    copying.join()


def drop_output() -> None:
    """Discard output that standard output does not accept: Python would retry at exit, and print an error."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
