"""Two processes of user-service, a Postgres, a Redis and the four links between them, driven by a state machine."""

import secrets
import signal
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from hypothesis import HealthCheck, Phase, Verbosity, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test

from tests.process.coherence.links import Network
from tests.support import backends
from tests.support.backends import Postgres, Service, until

NAMES = ("a", "b")
PRISTINE, KEPT = "pristine.dump", "kept.dump"
USERS = "/api/v1/users"
READERS = 4
LEARNT_S = 10.0
"""Seconds within which every process has learnt of a restore; it needs less than one."""
TIMES = {"APP_DATABASE_CONNECT_TIMEOUT_S": "0.5", "APP_DATABASE_STATEMENT_TIMEOUT_S": "1"}
"""Shorter timeouts than usual: waiting for a stalled link is pointless."""
steps = Counter[str]()
"""Counts of the steps done, for a summary line: a machine that does nothing finds nothing."""


class World:
    """Servers, processes and links that the machine works on; started once, since they take seconds to start.

    Args:
        folder: the folder of this world alone.
    """

    def __init__(self, folder: Path) -> None:
        self.network = Network()
        self.postgres = Postgres(folder)
        self.redis = backends.redis(folder)
        self.redis.start()
        self.redis.await_ready()
        self.links = {
            (name, server): self.network.link(port)
            for name in NAMES
            for server, port in (("postgres", self.postgres.port), ("redis", self.redis.port))
        }
        self.services = {
            name: Service(name, folder, self.links[name, "postgres"].port, self.links[name, "redis"].port, TIMES)
            for name in NAMES
        }
        self.services["a"].migrate()
        self.postgres.dump(PRISTINE)
        for service in self.services.values():
            service.start()
        self.await_services()
        self.readers = ThreadPoolExecutor(2 * READERS)

    def await_services(self) -> None:
        """Return once both processes serve."""
        for service in self.services.values():
            until(lambda service=service: service.ready() and answers(service.client, f"{USERS}?limit=1"), "it serves")

    def heal(self) -> None:
        """Unblock all links."""
        for link in self.links.values():
            link.heal()

    def drop_held(self) -> None:
        """Cut all links and unblock them: held data never arrives."""
        for link in self.links.values():
            link.cut()
            link.heal()

    def flush(self) -> None:
        """Empty Redis."""
        import redis

        with redis.Redis(port=self.redis.port) as client:
            client.flushall()  # pyright: ignore[reportUnknownMemberType]

    def close(self) -> None:
        """Stop everything."""
        self.readers.shutdown()
        for service in self.services.values():
            service.close()
        self.network.close()
        self.redis.stop()
        self.postgres.stop()


def answers(client: httpx.Client, path: str) -> bool:
    """Return whether a path is answered with 200."""
    try:
        return client.get(path).status_code == 200
    except httpx.TransportError:
        return False


@dataclass
class Promised:
    """Bounds that reads of a user have to keep after acknowledged writes."""

    least: int
    """Lowest version that a read which begins now may return."""
    ages: dict[int, int] = field(default_factory=dict[int, int])
    """Ages by acknowledged version."""
    gone: bool = False
    perhaps_gone: bool = False
    """A flag for a deletion that was sent and not answered: it may be done, or still arrive."""

    def broken_by(self, answer: httpx.Response) -> str | None:
        """Return how an answer to a read that began after these writes violates the bounds; None where it does not."""
        if answer.status_code == 404:
            return None if self.gone or self.perhaps_gone else "is not found"
        if answer.status_code != 200:
            return None  # an answer without a user is not stale
        version, age = int(answer.headers["etag"].strip('"').partition("-")[0]), answer.json()["age"]
        if self.gone:
            return f"is read in version {version} after its deletion"
        if version < self.least:
            return f"is read in version {version}"
        if age != self.ages.get(version, age):
            return f"is read in version {version} with another age, {age}"
        return None


process = st.sampled_from(NAMES)
which = st.integers(0, 2)
age = st.integers(0, 150)
server = st.sampled_from(["redis", "postgres"])
Disturbance = tuple[str, ...] | None
faults = st.tuples(st.just("break_link"), process, server, st.sampled_from(["cut", "stall"]))
disturbances: st.SearchStrategy[Disturbance] = st.one_of(
    st.none(),
    faults,
    faults,
    st.tuples(st.just("heal"), process, server),
    st.sampled_from([("heal_all",), ("dump",), ("restore",)]),
    st.tuples(st.just("restart"), st.sampled_from(["flush", "flush", "redis", "postgres", *NAMES])),
)
"""Disturbances before a write: a method of the machine, and its arguments."""


class Coherence(RuleBasedStateMachine):
    """A state machine that checks that no read which begins after an acknowledged write returns an older version.

    Args:
        world: the world that it works on.
    """

    def __init__(self, world: World) -> None:
        super().__init__()
        self.world = world
        self.users: dict[int, Promised] = {}
        self.kept: dict[int, Promised] | None = None

    @initialize()
    def begin(self) -> None:
        """Restore a fresh database, in which no generation was ever advanced."""
        self.world.drop_held()
        self.world.postgres.restore(PRISTINE)
        self.world.flush()
        self.world.await_services()
        until(lambda: all(service.client.get(f"{USERS}").json() == [] for service in self.world.services.values()), "it is empty")  # fmt: skip
        for name in (*NAMES, *NAMES):
            self.create(name)
        assert len(self.users) == 4
        steps["examples"] += 1

    def client(self, name: str) -> httpx.Client:
        return self.world.services[name].client

    def pick(self, number: int) -> int:
        return sorted(self.users)[number % len(self.users)]

    def create(self, name: str) -> None:
        """Create a user; it counts once it is acknowledged."""
        new = {"name": "Ada", "email": f"{secrets.token_hex(8)}@example.com", "age": 0}
        answer = sent(lambda: self.client(name).post(USERS, json=new))
        if answer is not None and answer.status_code == 201:
            self.users[answer.json()["id"]] = Promised(1, {1: 0})

    def look(self, name: str, user: int, promised: Promised) -> None:
        """Read a user that has bounds."""
        answer = sent(lambda: self.client(name).get(f"{USERS}/{user}"))
        broken = answer is not None and promised.broken_by(answer)
        assert not broken, f"user {user} {broken} at {name}; promised: {promised}"
        steps["reads answered" if answer is not None and answer.status_code in (200, 404) else "reads unanswered"] += 1

    def look_everywhere(self, promises: dict[int, Promised]) -> None:
        """Read users at both processes at once."""
        reading = [
            self.world.readers.submit(self.look, name, user, promised)
            for name in NAMES
            for user, promised in promises.items()
        ]
        for task in reading:
            task.result()

    @rule(
        disturb=disturbances,
        name=process,
        number=which,
        age=age,
        readers=st.sampled_from([0, READERS]),
        deletes=st.sampled_from([False, False, False, True]),
    )
    def write(self, disturb: Disturbance, name: str, number: int, age: int, readers: int, deletes: bool) -> None:  # noqa: FBT001 - drawn
        """Write what both processes have just read, perhaps amid a fault and other readers, and read it then.

        It is one rule because hypothesis leaves rules out of examples: an example without writes finds nothing.
        """
        user = self.pick(number)
        self.look_everywhere({user: self.users[user]})
        self.look_everywhere({user: self.users[user]})  # from Redis
        if disturb:
            getattr(self, disturb[0])(*disturb[1:])
        user = self.pick(number)  # a restore leaves other users
        before = deepcopy(self.users[user])
        before.perhaps_gone |= deletes
        reading = [
            self.world.readers.submit(self.look, reader, user, before) for reader in NAMES for _ in range(readers)
        ]
        if deletes:
            self.delete(name, user)
        else:
            self.patch(name, user, age)
        for task in reading:
            task.result()
        self.look_everywhere(self.users)
        if deletes:
            self.create(name)

    def patch(self, name: str, user: int, age: int) -> None:
        """Change a user, and update its bounds."""
        promised = self.users[user]
        change = {"json": {"age": age}, "headers": {"If-Match": "*"}}
        answer = sent(lambda: self.client(name).patch(f"{USERS}/{user}", **change))  # pyright: ignore[reportArgumentType]
        if answer is None or answer.status_code >= 500:
            steps["changes unanswered"] += 1
        elif answer.status_code == 404:
            assert promised.gone or promised.perhaps_gone
        else:
            assert answer.status_code == 200, answer.text
            steps["changes acknowledged"] += 1
            promised.least = int(answer.headers["etag"].strip('"').partition("-")[0])
            promised.ages[promised.least] = age

    def delete(self, name: str, user: int) -> None:
        """Delete a user, and update its bounds."""
        promised = self.users[user]
        answer = sent(lambda: self.client(name).delete(f"{USERS}/{user}", headers={"If-Match": "*"}))
        if answer is not None and answer.status_code in (204, 404):
            assert answer.status_code == 204 or promised.gone or promised.perhaps_gone
            promised.gone = True
            steps["deletions acknowledged"] += 1
        else:
            promised.perhaps_gone = True

    def break_link(self, name: str, server: str, how: str) -> None:
        """Cut or stall one link."""
        getattr(self.world.links[name, server], how)()

    def heal(self, name: str, server: str) -> None:
        """Unblock one link."""
        self.world.links[name, server].heal()

    def heal_all(self) -> None:
        """Unblock all links."""
        self.world.heal()

    def restart(self, what: str) -> None:
        """Kill a process and start it; or flush Redis."""
        if what == "flush":
            self.world.flush()
        elif what == "redis":
            self.world.redis.restart()
        elif what == "postgres":
            self.world.postgres.restart(signal.SIGQUIT)  # as after a crash
        else:
            self.world.services[what].restart()

    def dump(self) -> None:
        """Make a backup."""
        self.world.postgres.dump(KEPT)
        self.kept = deepcopy(self.users)

    def restore(self) -> None:
        """Restore the backup, if there is one; Redis keeps its content."""
        if self.kept is None:
            self.dump()
        self.world.drop_held()
        self.world.postgres.restore(KEPT)
        self.users = deepcopy(self.kept or {})
        self.world.await_services()
        for name in NAMES:
            until(lambda name=name: self.shows_restored(name), f"{name} has learnt of the restore", LEARNT_S)
        steps["restores"] += 1

    def shows_restored(self, name: str) -> bool:
        """Return whether a process shows the restored users, and no others."""
        for user, promised in self.users.items():
            answer = sent(lambda user=user: self.client(name).get(f"{USERS}/{user}"))
            if answer is None or answer.status_code == 503 or promised.broken_by(answer):
                return False
        return True

    def teardown(self) -> None:
        """Unblock all links: then everything is answered, and still within the bounds."""
        self.world.heal()
        self.world.await_services()
        self.look_everywhere(self.users)


def sent(send: Callable[[], httpx.Response]) -> httpx.Response | None:
    """Return the answer to a request; None where the process went away."""
    try:
        return send()
    except httpx.TransportError:
        return None


def explore(world: World, number: int, examples: int, steps_each: int) -> None:
    """Run some examples.

    Args:
        world: the world to run them on.
        number: the seed of the examples.
        examples: the number of examples.
        steps_each: the maximum number of steps of each.
    """

    def machine() -> Coherence:
        return Coherence(world)

    seeded: Any = seed(number)(machine)
    run_state_machine_as_test(  # pyright: ignore[reportUnknownMemberType]
        seeded,
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps_each,
            deadline=None,
            database=None,
            phases=[Phase.generate],  # each step takes real time: a shorter example is not worth minutes
            suppress_health_check=list(HealthCheck),  # pyright: ignore[reportArgumentType]
            verbosity=Verbosity.normal,
        ),
    )
