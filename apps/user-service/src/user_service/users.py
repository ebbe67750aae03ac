"""Users: their rules and their SQL."""

import asyncio
import hashlib
import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any
from weakref import WeakValueDictionary

import asyncpg
import orjson
from email_validator import SPECIAL_USE_DOMAIN_NAMES, validate_email
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field
from servicekit.postgres import AgainError, Connection, Postgres, Work
from servicekit.preconditions import Preconditions
from servicekit.problems import PRECONDITION_FAILED, UNAVAILABLE, Kind, Problem, unavailable

from user_service.batching import Batched
from user_service.cache import Cache, Row

USER_NOT_FOUND = Kind(404, "user-not-found", "There is no such user")
EMAIL_TAKEN = Kind(409, "email-taken", "Another user has this e-mail address")
KEY_REUSED = Kind(422, "idempotency-key-reused", "The Idempotency-Key was used for another request")

NO_PUNCTUATION = str.maketrans("", "", "-:.TZ")
LARGEST_SUBJECT = 255
KEYS_KEPT_H = 24
"""Minimum hours for which an Idempotency-Key is kept."""
LARGEST_ID = 2**63 - 1  # bigint
LOCAL_PART_LIMIT_BYTES = 64  # RFC 5321, section 4.5.3.1.1; RFC 6531 counts in UTF-8
FOLDED = 'lower({} COLLATE "C")'
"""Expression by which addresses are compared: it folds A to Z alone, in every locale."""
INVISIBLE = (
    r"\x00-\x1f\x7f-\x9f\xad\u034f\u0600-\u0605\u061c\u06dd\u070f\u0890-\u0891\u08e2\u115f-\u1160\u17b4-\u17b5\u180e"
    r"\u200b-\u200f\u2028-\u202e\u2060-\u206f\u2800\u3164\ue000-\uf8ff\ufdd0-\ufdef\ufeff\uffa0\ufff0-\ufffb\ufffe\uffff"
    # As characters: the regular expressions of JSON Schema (ECMA-262) have no other way to write these that Python's have too.
    "\U000110bd\U000110cd\U00013430-\U00013440\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e00ff"
    "\U000e01f0-\U000e0fff\U000f0000-\U0010ffff"
    + "".join(f"{chr(plane << 16 | 0xFFFE)}{chr(plane << 16 | 0xFFFF)}" for plane in range(1, 0xF))
)
"""Characters without a visible form, which make two names look the same or one look reversed: the categories Cc, Cf, Co, Zl and Zp, the
characters that Unicode calls default-ignorable (DerivedCoreProperties.txt) or reserves for that, and its noncharacters."""
SELECTORS = "\\u180b-\\u180d\\u180f\\ufe00-\\ufe0f\U000e0100-\U000e01ef"
"""Characters that select a form of the preceding character (UTS #37), which Japanese and Mongolian names need."""
SPACES = r" \xa0\u1680\u2000-\u200a\u202f\u205f\u3000"
SEEN = f"[^{INVISIBLE}{SELECTORS}{SPACES}][{SELECTORS}]?"
JOINERS = r"\u200c\u200d"
"""Characters within words of Persian, Hindi and others (UAX #31, section 2.3)."""
NAME = f"^{SEEN}(([{JOINERS}]|[{SPACES}]+)?{SEEN})*$"
NAME_RULE = "No invisible characters but joiners and variation selectors within a word, no space at either end."


def visible(text: str) -> str:
    """Return a valid name unchanged.

    Raises:
        ValueError: the name is invalid; the message is the rule in words, which is shorter than the expression.
    """
    if not re.fullmatch(NAME, text):
        raise ValueError(NAME_RULE)
    return text


Name = Annotated[
    str,
    Field(
        min_length=1,
        max_length=200,
        description=NAME_RULE,
        examples=["Ada Lovelace"],
        json_schema_extra={"pattern": NAME},
    ),
    AfterValidator(visible),
]


SPECIAL_USE_DOMAIN_NAMES.clear()  # syntax alone decides: names such as .local are valid in some networks


def address(text: str) -> str:
    """Return an e-mail address in its normal form for storage and search (RFC 5321, and RFC 6531 for scripts other than Latin).

    The domain is Unicode in lower case (UTS #46, IDNA 2008), the local part in the form NFC.

    Raises:
        ValueError: the address is invalid; with the reason.
    """
    found = validate_email(text, check_deliverability=False, strict=True)
    if max(len(part.encode()) for part in (found.local_part, text.rpartition("@")[0])) > LOCAL_PART_LIMIT_BYTES:
        raise ValueError(f"the part before the @ has more than {LOCAL_PART_LIMIT_BYTES} bytes in UTF-8")
    if re.search(f"[{INVISIBLE}{SELECTORS}]", found.local_part):  # two addresses would look the same
        raise ValueError("the part before the @ has an invisible character")
    return found.normalized


Email = Annotated[
    str,
    Field(
        min_length=6,
        max_length=254,
        description="Unique, whatever the case of A to Z and the form of the domain, which is stored as Unicode in lower case. No quoted"
        " local part, no address of a host by number.",
        examples=["ada@example.com"],
        json_schema_extra={"format": "email"},
    ),
    AfterValidator(address),
]


def whole(value: Any) -> Any:
    """Convert a whole Decimal to an integer: JSON has one kind of number, so 36.0 is whole. Text is not converted, and nothing is rounded."""
    return int(value) if isinstance(value, Decimal) and value == value.to_integral_value() else value


Age = Annotated[int, Field(strict=True, ge=0, le=150, examples=[36]), BeforeValidator(whole)]


class NewUser(BaseModel):
    """A user to be, or what a user is to become."""

    model_config = ConfigDict(extra="forbid")

    name: Name
    email: Email
    age: Age


class Replacement(NewUser):
    """A user as it is to become, in the form that GET shows: its id may be there, and is the one in the path."""

    id: Annotated[int, Field(strict=True, ge=1, le=LARGEST_ID), BeforeValidator(whole)] = Field(
        default_factory=int, description="As in the path.", examples=[1]
    )


class UserChange(BaseModel):
    """What is to change of a user (RFC 7396); what is left out stays."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"age": 37}]})

    # Factories, so that the document shows no defaults: an omitted field has none, it stays.
    name: Name = Field(default_factory=str)
    email: Email = Field(default_factory=str)
    age: Age = Field(default_factory=int)


class User(BaseModel):
    """A user. What is asked of a new one may get stricter; what is stored is shown as it is."""

    id: int = Field(ge=1, le=LARGEST_ID, examples=[1])
    name: str = Field(examples=["Ada Lovelace"])
    email: str = Field(examples=["ada@example.com"])
    age: int = Field(examples=[36])


COLUMNS = "id, name, email, age, version, created_at, updated_at"
REVISION = "version || '-' || to_char(updated_at AT TIME ZONE 'UTC', 'YYYYMMDDHH24MISSMS')"
"""Expression for the unique name of a user's state, as `revision` returns it: a restore repeats versions, but not at the same time."""

WANTED = f"($2::text[] IS NULL OR {REVISION} = ANY($2)) AND NOT coalesce({REVISION} = ANY($3::text[]), true)"
"""Condition that a user's state is accepted by preconditions ($2) and not refused by them ($3); NULL is every state."""


class Users:
    """The users in the database, with a cache.

    A row is a dict of COLUMNS, with times in RFC 3339.

    Args:
        database: database with the users.
        cache: cache of users.
    """

    def __init__(self, database: Postgres, cache: Cache) -> None:
        self.database = database
        self.cache = cache
        self._turns: WeakValueDictionary[int, asyncio.Lock] = WeakValueDictionary()
        self._remembered: Batched[int, Row | None] = Batched(cache.get)
        self._stored: Batched[int, Row | None] = Batched(self._load)

    async def get(self, user_id: int) -> Row:
        """Return one user.

        Raises:
            Problem: 404, there is no such user.
        """
        row = await self._remembered.get(user_id) or await self._stored.get(user_id)
        if row is None:
            raise missing(user_id)
        return row

    async def list_after(self, after: int, skip: int, limit: int) -> list[Row]:
        """Return up to `limit` users with an id greater than `after`, except the first `skip`, by id, without version and times."""
        query = "SELECT id, name, email, age FROM users WHERE id > $1 ORDER BY id OFFSET $2 LIMIT $3"
        rows = await self.database.run(lambda c: c.fetch(query, after, skip, limit), repeatable=True)
        return [dict(row) for row in rows]

    async def page(self, query: str, values: Sequence[Any]) -> list[Row]:
        """Return the users that a query of COLUMNS finds."""
        rows = await self.database.run(lambda c: c.fetch(query, *values), repeatable=True)
        return [as_row(row) for row in rows]

    async def create(self, new: NewUser, subject: str, idempotency_key: str | None) -> Row:
        """Store a user, and return it; for a key that was used before, return the user as it was stored then.

        Args:
            new: user to create.
            subject: owner of the key.
            idempotency_key: key of this creation (draft-ietf-httpapi-idempotency-key-header).

        Raises:
            Problem: 409, another user has the email; 422, the key was used for another user.
        """
        if idempotency_key is None:
            return await self.database.run(lambda c: insert(c, new), repeatable=False, writes=True)
        wanted = hashlib.sha256(new.model_dump_json().encode()).digest()
        subject = stored_subject(subject)

        async def once(connection: Connection) -> Row:
            async with connection.transaction():
                # A concurrent request with the same key waits here until the first has committed.
                first = await connection.fetchval(
                    "INSERT INTO idempotency_keys (subject, key, fingerprint) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING RETURNING true",
                    subject,
                    idempotency_key,
                    wanted,
                )
                if not first:
                    return await first_answer(connection, subject, idempotency_key, wanted)
                row = await insert(connection, new)
                await connection.execute(
                    "UPDATE idempotency_keys SET answer = $3 WHERE subject = $1 AND key = $2",
                    subject,
                    idempotency_key,
                    orjson.dumps(row).decode(),
                )
                return row

        return await self.database.run(once, repeatable=True, writes=True)

    async def update(self, user_id: int, values: Mapping[str, Any], when: Preconditions) -> Row:
        """Change a user, and return it.

        Args:
            user_id: id of the user.
            values: new values by column; omitted ones stay.
            when: preconditions of the change.

        Raises:
            Problem: 404, 412, or 409, another user has the email.
        """
        query = f"""
            UPDATE users SET name = coalesce($4, name), email = coalesce($5, email), age = coalesce($6, age),
                   version = version + 1, updated_at = now()
            WHERE id = $1 AND {WANTED} RETURNING {COLUMNS}"""
        arguments = (user_id, when.accepted, when.refused, values.get("name"), values.get("email"), values.get("age"))
        return await self._change(user_id, query, arguments)

    async def delete(self, user_id: int, when: Preconditions) -> None:
        """Delete a user; arguments and errors are those of `update`."""
        query = f"DELETE FROM users WHERE id = $1 AND {WANTED} RETURNING {COLUMNS}"
        await self._change(user_id, query, (user_id, when.accepted, when.refused))

    async def forget_keys(self) -> None:
        """Delete the Idempotency-Keys that were kept long enough."""
        query = f"DELETE FROM idempotency_keys WHERE created_at < now() - interval '{KEYS_KEPT_H} hours'"
        await self.database.run(lambda c: c.execute(query), repeatable=True, writes=True)

    async def _change(self, user_id: int, query: str, arguments: tuple[Any, ...]) -> Row:
        async def change(connection: Connection) -> Row:
            row = await connection.fetchrow(query, *arguments)
            if row is not None:
                return as_row(row)
            if await connection.fetchval("SELECT true FROM users WHERE id = $1", user_id):
                raise Problem(
                    PRECONDITION_FAILED, f"user {user_id} is in another state: get it again, and its ETag with it"
                )
            raise missing(user_id)

        try:
            row = await self._in_turn(user_id, change)
        except asyncpg.UniqueViolationError as error:
            raise Problem(EMAIL_TAKEN, "another user has this e-mail address") from error
        except Problem as problem:
            if problem.kind is UNAVAILABLE:  # the change may have been made nevertheless
                await self.cache.invalidate(user_id)
            raise
        await self.cache.invalidate(user_id)
        return row

    async def _in_turn(self, user_id: int, change: Work[Row]) -> Row:
        """Return the result of a change; of changes to one user, only one at a time uses a connection.

        Raises:
            Problem: 503, earlier changes take too long.
        """
        turn = self._turns.setdefault(user_id, asyncio.Lock())
        try:
            async with asyncio.timeout(self.database.settings.statement_timeout_s):
                await turn.acquire()
        except TimeoutError as error:
            raise unavailable("other changes of this user take too long for the moment") from error
        try:
            return await self.database.run(change, repeatable=False, writes=True)
        finally:
            turn.release()

    async def _load(self, ids: Sequence[int]) -> list[Row | None]:
        """Load users from the database, and cache them."""
        lease = await self.cache.lease(ids)
        query = f"SELECT {COLUMNS} FROM users WHERE id = ANY($1::bigint[])"
        found = await self.database.run(lambda c: c.fetch(query, ids), repeatable=True)
        rows = {row["id"]: as_row(row) for row in found}
        await self.cache.fill(lease, rows)
        return [rows.get(user_id) for user_id in ids]


async def insert(connection: Connection, new: NewUser) -> Row:
    """Insert a user, and return its row.

    Raises:
        Problem: 409, another user has the email.
    """
    # ON CONFLICT, since a unique violation would also be an error in Postgres' log.
    query = f"INSERT INTO users (name, email, age) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING RETURNING {COLUMNS}"
    row = await connection.fetchrow(query, new.name, new.email, new.age)
    if row is None:
        raise Problem(EMAIL_TAKEN, "another user has this e-mail address")
    return as_row(row)


async def first_answer(connection: Connection, subject: str, key: str, wanted: bytes) -> Row:
    """Return the response that was given to the first request with a key.

    Raises:
        Problem: 422, the key was used for another request.
    """
    query = "SELECT fingerprint, answer FROM idempotency_keys WHERE subject = $1 AND key = $2"
    known = await connection.fetchrow(query, subject, key)
    if known is None:  # deleted since, so this request becomes the first
        raise AgainError
    if known["fingerprint"] != wanted:
        raise Problem(KEY_REUSED, "this Idempotency-Key was used for another user: send a new one")
    return orjson.loads(known["answer"])


def stored_subject(subject: str) -> str:
    """Return a token's subject in a form that Postgres can store: its digest if it is too long, not UTF-8, or contains NUL."""
    encoded = subject.encode("utf-8", "surrogatepass")
    storable = len(subject) <= LARGEST_SUBJECT and "\0" not in subject and encoded == subject.encode("utf-8", "replace")
    return subject if storable else hashlib.sha256(encoded).hexdigest()


def as_row(record: Any) -> Row:
    """Return a record of COLUMNS as a dict, with times as text."""
    row = dict(record)
    for name in ("created_at", "updated_at"):
        row[name] = rfc3339(row[name])
    return row


def rfc3339(time: datetime) -> str:
    """Return a time as text, in milliseconds as Postgres stores it."""
    return time.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def revision(row: Row) -> str:
    """Return the name of a user's state, as REVISION does."""
    return f"{row['version']}-{row['updated_at'].translate(NO_PUNCTUATION)}"


def missing(user_id: int) -> Problem:
    """Return problem 404: there is no such user."""
    return Problem(USER_NOT_FOUND, f"there is no user {user_id}")
