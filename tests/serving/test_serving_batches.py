"""The batch thread: batching, bounds, cancelling, failures of the engine, and swaps between batches."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

import pytest
from fake_session import EchoSession

from volant.core import Model
from volant.core.protocols import Request
from volant.serving.engine import Batcher, Closed, Job, QueueFull, Served


def served(session: EchoSession, model_at: Callable[[str], Model]) -> Served:
    return Served(model_at(session.name), digest=session.name, session=session)


def job(id: str, text: str = "hi", *, n: int = 1, max_tokens: int = 50, seconds: float = 10) -> Job:
    requests = [Request(id=f"{id}.{i}", prompt=text, max_tokens=max_tokens) for i in range(n)]
    return Job(id, requests, deadline=time.monotonic() + seconds)


async def text_of(job: Job) -> tuple[str, str]:
    text, finish = "", ""
    async for _, chunk in job.chunks():
        text, finish = text + chunk.text, chunk.finish or finish
    return text, finish


async def until(condition: Callable[[], Any]) -> None:
    for _ in range(500):
        if condition():
            return
        await asyncio.sleep(0.005)
    raise AssertionError("it did not come true")


def test_waiting_requests_run_together_and_each_gets_its_own_answer(model_at: Any) -> None:
    async def scene() -> None:
        session = EchoSession(token_seconds=0.01)
        batcher = Batcher(served(session, model_at), batch=4)
        first = job("first", "first")
        batcher.submit(first)
        await until(lambda: batcher.running)
        others = [job(f"j{i}", f"text {i}") for i in range(6)]
        for other in others:
            batcher.submit(other)
        assert batcher.waiting == 6
        answers = await asyncio.gather(*(text_of(j) for j in [first, *others]))
        assert [a for a, _ in answers] == ["echo says first", *(f"echo says text {i}" for i in range(6))]
        assert [len(b) for b in session.batches] == [1, 4, 2]
        batcher.close()
        assert session.closed

    asyncio.run(scene())


def test_the_queue_is_bounded_and_says_when_to_come_again(model_at: Any) -> None:
    async def scene() -> None:
        batcher = Batcher(served(EchoSession(token_seconds=0.02), model_at), queue=3)
        batcher.submit(job("running"))
        await until(lambda: batcher.running)
        for i in range(3):
            batcher.submit(job(f"j{i}"))
        with pytest.raises(QueueFull) as full:
            batcher.submit(job("late"))
        assert 1 <= full.value.retry_after <= 60
        batcher.close()
        with pytest.raises(Closed):
            batcher.submit(job("after"))

    asyncio.run(scene())


def test_cancelling_ends_a_running_request_at_the_next_token_and_a_waiting_one_at_once(model_at: Any) -> None:
    async def scene() -> None:
        session = EchoSession(token_seconds=0.01, words=0)
        batcher = Batcher(served(session, model_at))
        long, waiting = job("long", max_tokens=4000), job("waiting")
        batcher.submit(long)
        await until(lambda: session.tokens_made > 2)
        batcher.submit(waiting)
        batcher.cancel(waiting)
        assert batcher.waiting == 0
        batcher.cancel(long)
        made = session.tokens_made
        await until(lambda: not batcher.running)
        assert session.tokens_made <= made + 1
        assert len(session.batches) == 1
        batcher.close()

    asyncio.run(scene())


def test_a_bad_request_does_not_take_its_batch_with_it(model_at: Any) -> None:
    async def scene() -> None:
        session = EchoSession(token_seconds=0.01)
        batcher = Batcher(served(session, model_at))
        batcher.submit(running := job("running"))
        await until(lambda: batcher.running)
        jobs = [job("good", "fine"), job("bad", "EXPLODE"), job("also", "too")]
        for j in jobs:
            batcher.submit(j)
        answers = await asyncio.gather(*(text_of(j) for j in [running, *jobs]))
        assert [finish for _, finish in answers] == ["stop", "stop", "error", "stop"]
        assert answers[1][0] == "echo says fine"
        batcher.close()

    asyncio.run(scene())


def test_an_engine_that_stops_without_a_finish_is_an_error_and_not_a_hang(model_at: Any) -> None:
    class Silent(EchoSession):
        def generate(self, requests: Any) -> Any:
            yield from ()

    async def scene() -> None:
        batcher = Batcher(served(Silent(), model_at))
        batcher.submit(j := job("j", seconds=2))
        assert (await text_of(j))[1] == "error"
        batcher.close()

    asyncio.run(scene())


def test_a_swap_waits_for_the_batch_and_the_queue_goes_to_the_new_model(model_at: Any) -> None:
    async def scene() -> None:
        old, new = EchoSession("old", token_seconds=0.01), EchoSession("new")
        closed: list[str] = []
        batcher = Batcher(served(old, model_at), on_closed=closed.append)
        batcher.submit(running := job("running", n=2))
        await until(lambda: batcher.running)
        batcher.submit(waiting := job("waiting", n=2))
        done = batcher.swap(served(new, model_at))
        assert not old.closed
        assert (await text_of(running))[0].startswith("old")
        assert (await text_of(waiting))[0].startswith("new")
        assert running.served and running.served.digest == "old"
        assert waiting.served and waiting.served.digest == "new"
        assert done.is_set() and old.closed and not new.closed and closed == ["old"]
        batcher.close()
        assert new.closed

    asyncio.run(scene())


def test_two_swaps_between_two_batches_close_the_one_that_never_ran(model_at: Any) -> None:
    async def scene() -> None:
        a, b, c = EchoSession("a", token_seconds=0.02), EchoSession("b"), EchoSession("c")
        batcher = Batcher(served(a, model_at))
        batcher.submit(running := job("running"))
        await until(lambda: batcher.running)
        first, second = batcher.swap(served(b, model_at)), batcher.swap(served(c, model_at))
        await text_of(running)
        assert await asyncio.to_thread(second.wait, 2) and first.is_set()
        await until(lambda: a.closed)
        assert b.closed and not b.batches and not c.closed
        batcher.close()

    asyncio.run(scene())


def test_closing_ends_what_waits_and_what_runs(model_at: Any) -> None:
    async def scene() -> None:
        session = EchoSession(token_seconds=0.01, words=0)
        batcher = Batcher(served(session, model_at))
        batcher.submit(running := job("running", max_tokens=4000))
        await until(lambda: session.tokens_made > 1)
        batcher.submit(waiting := job("waiting"))
        await asyncio.to_thread(batcher.close)
        assert (await text_of(waiting))[1] == "cancelled"
        assert (await text_of(running))[1] == "cancelled"
        assert session.closed

    asyncio.run(scene())


def test_an_engine_is_never_told_to_cancel_what_it_does_not_run(model_at: Any) -> None:
    """An engine keeps an id that it is told to cancel until it meets it: for ever, if that was over."""

    async def scene() -> None:
        session = EchoSession(token_seconds=0.01)
        batcher = Batcher(served(session, model_at))
        done, longer = job("done", "x"), job("longer", "a b c d e f g h i j")
        batcher.submit(done)
        batcher.submit(longer)
        await text_of(done)
        batcher.cancel(done)  # finished, while its batch may still run
        await text_of(longer)
        batcher.cancel(longer)
        batcher.cancel(job("unknown"))
        assert not session.cancelled
        batcher.close()

    asyncio.run(scene())
