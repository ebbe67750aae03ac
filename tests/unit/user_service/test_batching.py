import asyncio
from collections.abc import Sequence

import pytest
from servicekit.tracing import Trace, continued, current
from user_service.batching import Batched


class Source:
    """A source that answers when the test releases it."""

    def __init__(self) -> None:
        self.asked: list[list[int]] = []
        self.may_answer = asyncio.Event()

    async def load(self, keys: Sequence[int]) -> list[str]:
        self.asked.append(list(keys))
        await self.may_answer.wait()
        if 13 in keys:
            raise LookupError
        return [f"value of {key}" for key in keys]


async def test_what_is_asked_at_once_is_loaded_at_once_and_each_key_once() -> None:
    source = Source()
    source.may_answer.set()
    batched = Batched(source.load)
    assert await asyncio.gather(*(batched.get(key) for key in (1, 2, 1))) == ["value of 1", "value of 2", "value of 1"]
    assert source.asked == [[1, 2]]


async def test_a_source_that_answers_too_little_fails_its_batch_alone() -> None:
    answers: list[list[str]] = [["one"], []]

    async def load(_: Sequence[int]) -> list[str]:
        return answers.pop()

    batched = Batched(load)
    async with asyncio.timeout(10):
        with pytest.raises(ValueError, match="shorter"):
            await batched.get(1)
        assert await batched.get(1) == "one"


async def test_no_client_gets_an_answer_older_than_its_request() -> None:
    source = Source()
    batched = Batched(source.load)
    first = asyncio.create_task(batched.get(1))
    await asyncio.sleep(0.01)
    late = [asyncio.create_task(batched.get(1)) for _ in range(100)]
    await asyncio.sleep(0.01)
    source.may_answer.set()
    await asyncio.gather(first, *late)
    assert source.asked == [[1], [1]]


async def test_one_that_leaves_takes_nothing_from_the_others() -> None:
    source = Source()
    batched = Batched(source.load)
    leaving, staying = asyncio.create_task(batched.get(1)), asyncio.create_task(batched.get(1))
    await asyncio.sleep(0.01)
    leaving.cancel()
    source.may_answer.set()
    assert await staying == "value of 1"


async def test_an_error_is_for_those_who_asked_and_the_next_batch_goes_on() -> None:
    source = Source()
    source.may_answer.set()
    batched = Batched(source.load)
    with pytest.raises(LookupError):
        await batched.get(13)
    assert await batched.get(1) == "value of 1"


async def test_a_batch_is_a_part_of_the_first_request_that_waits_for_it_and_is_recorded() -> None:
    loaded_for: list[Trace | None] = []

    async def load(keys: Sequence[int]) -> list[int]:
        loaded_for.append(current.get())
        return list(keys)

    batched = Batched(load)

    async def request(key: int, trace: Trace | None) -> None:
        current.set(trace)
        await batched.get(key)

    first, second = continued(""), continued("")
    await asyncio.gather(request(1, None), request(2, first), request(3, second))
    await asyncio.gather(request(1, None))
    assert loaded_for == [first, None]
