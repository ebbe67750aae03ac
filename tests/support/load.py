"""Concurrent users of the running estate, and checks of the guarantees that they rely on."""

import threading
import time
import uuid
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import pairwise
from types import TracebackType
from typing import Self

import httpx

from tests.support.running import version_in

USERS = "/api/v1/users"
WRITE_EVERY_S, READ_EVERY_S = 0.1, 0.04
"""Seconds between requests: short enough to meet every moment, and long enough for tests of several stacks at once."""


@dataclass
class Written:
    """A user that one writer changes; each acknowledged change sets another age."""

    id: int
    age: int
    version: int


@dataclass
class Load:
    """Writers, each with a user of its own, and readers of all of them.

    Args:
        client: the client of the gateway; each request is one that a user would see fail.
        writers: the number of threads that change users, and now and then create one.
        readers: the number of threads that read.
    """

    client: httpx.Client
    writers: int = 4
    readers: int = 4
    answers: Counter[str] = field(default_factory=Counter[str])
    """Count of each outcome: `GET 200`, `PATCH 503 the database is away`, `GET ReadTimeout`."""
    stale: list[str] = field(default_factory=list[str])
    """Reads that were older than a change acknowledged before they began."""
    created: dict[int, str] = field(default_factory=dict[int, str])
    """E-mail address of every user whose creation was acknowledged, by id."""
    written: list[Written] = field(default_factory=list[Written])
    acknowledged: list[float] = field(default_factory=list[float])
    """Times of acknowledged changes, by the monotonic clock."""

    def __enter__(self) -> Self:
        """Start the threads."""
        self._end = threading.Event()
        self.written = [self._new() for _ in range(self.writers)]
        self._threads = ThreadPoolExecutor(self.writers + self.readers)
        self._running = [self._threads.submit(self._write, user) for user in self.written]
        self._running += [self._threads.submit(self._read) for _ in range(self.readers)]
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Stop the threads, and raise the error of a thread."""
        self._end.set()
        self._threads.shutdown()
        for thread in self._running:
            thread.result()

    def run(self, seconds: float) -> None:
        """Keep the load up for a while."""
        self._end.wait(seconds)

    def longest_pause(self) -> float:
        """Return the longest time without an acknowledged change, in seconds."""
        return max(after - before for before, after in pairwise(sorted(self.acknowledged)))

    def failures(self) -> dict[str, int]:
        """Return the outcomes that no user should see."""
        return {outcome: n for outcome, n in self.answers.items() if outcome.split()[1] not in ("200", "201", "204")}

    def lost(self) -> list[str]:
        """Return the acknowledged writes that are missing."""
        lost = [
            f"change of {user.id} to {user.age}, found {found['age']}"
            for user in self.written
            if (found := self.client.get(f"{USERS}/{user.id}").json())["age"] != user.age
        ]
        return lost + [
            f"creation of {number}"
            for number, email in self.created.items()
            if self.client.get(f"{USERS}/{number}").json().get("email") != email
        ]

    def tidy(self) -> None:
        """Delete the created users."""
        for number in self.created:
            self.client.delete(f"{USERS}/{number}", headers={"If-Match": "*"})

    def _ask(self, method: str, path: str, **request: object) -> httpx.Response | None:
        try:
            answer = self.client.request(method, path, **request)  # pyright: ignore[reportArgumentType]
        except httpx.TransportError as error:
            self.answers[f"{method} {type(error).__name__}"] += 1
            return None
        why = "" if answer.is_success else f" {answer.text}"
        self.answers[f"{method} {answer.status_code}{why}"] += 1
        return answer

    def _new(self) -> Written:
        user = {"name": "Load", "email": f"load-{uuid.uuid4().hex}@example.com", "age": 0}
        key = {"Idempotency-Key": uuid.uuid4().hex}
        while True:
            answer = self._ask("POST", USERS, json=user, headers=key)
            if answer is not None and answer.status_code == 201:
                number = answer.json()["id"]
                self.created[number] = str(user["email"])
                return Written(number, 0, 1)
            if self._end.wait(0.2):
                return Written(0, 0, 0)

    def _write(self, user: Written) -> None:
        turn = 0
        while not self._end.wait(WRITE_EVERY_S):
            turn += 1
            if turn % 10 == 0:
                self._new()
            age = (user.age + 1) % 150
            while not self._end.is_set():
                # Repeated until acknowledged: setting the same age twice has the effect of once.
                answer = self._ask("PATCH", f"{USERS}/{user.id}", json={"age": age}, headers={"If-Match": "*"})
                if answer is not None and answer.status_code == 200:
                    user.age, user.version = age, version_in(answer)
                    self.acknowledged.append(time.monotonic())
                    break
                time.sleep(0.1)
            else:
                user.age = age if self._reads_back(user, age) else user.age

    def _reads_back(self, user: Written, age: int) -> bool:
        """Return whether a change that was never acknowledged was made after all."""
        answer = self._ask("GET", f"{USERS}/{user.id}")
        return answer is not None and answer.status_code == 200 and answer.json()["age"] == age

    def _read(self) -> None:
        turn = 0
        while not self._end.wait(READ_EVERY_S):
            turn += 1
            user = self.written[turn % len(self.written)]
            least = user.version
            answer = self._ask("GET", f"{USERS}/{user.id}")
            if answer is not None and answer.status_code == 200:
                version = version_in(answer)
                if version < least:
                    self.stale.append(f"user {user.id} in version {version} after {least} was acknowledged")
