"""`stream`: outcomes as rows are answered, within a running event loop."""

import asyncio
import contextlib
import gc
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any, ClassVar

import pandas
import polars
import pyarrow
import pytest
import tokio_asyncio_bridge as tab
from tokio_asyncio_bridge._native import Session


async def upper(question: str) -> str:
    await asyncio.sleep(0)
    return question.upper()


def rows(count: int) -> list[dict[str, str]]:
    return [{"question": f"q{index}"} for index in range(count)]


def running(test: Callable[[], Awaitable[None]]) -> Callable[[], None]:
    """Runs a test in a loop, which must be left without tasks, and without threads that it did not have."""

    def run() -> None:
        async def main() -> None:
            async with asyncio.timeout(60):
                await test()
            for _ in range(100):
                if len(asyncio.all_tasks()) == 1 and threads() <= before:
                    break
                await asyncio.sleep(0.05)
            assert asyncio.all_tasks() == {asyncio.current_task()}
            assert threads() <= before

        tab.map([{"question": "the thread of Python's first loop stays"}], upper)
        before = threads()
        asyncio.run(main())

    run.__name__ = test.__name__
    return run


def threads() -> int:
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("Threads:"))


@running
async def test_every_row_is_yielded_once() -> None:
    given = rows(20_000)
    outcomes = [outcome async for outcome in tab.stream(given, upper, concurrency=100)]
    assert sorted(outcome.index for outcome in outcomes) == list(range(20_000))
    assert all(outcome.answer == given[outcome.index]["question"].upper() for outcome in outcomes)
    assert all(outcome.row is given[outcome.index] for outcome in outcomes)


@running
async def test_outcomes_come_as_their_rows_end_or_in_the_rows_order() -> None:
    async def predict(wait: float) -> float:
        await asyncio.sleep(wait)
        return wait

    given = [{"wait": wait} for wait in (0.6, 0.3, 0.0)]
    assert [outcome.answer async for outcome in tab.stream(given, predict)] == [0.0, 0.3, 0.6]
    assert [outcome.answer async for outcome in tab.stream(given, predict, ordered=True)] == [0.6, 0.3, 0.0]


@running
async def test_an_async_generator_gives_rows_while_outcomes_come() -> None:
    done = asyncio.Event()

    async def generator() -> AsyncIterator[str]:
        yield "first"
        # The outcome of the first row is there before the second row is.
        await done.wait()
        for index in range(500):
            yield f"q{index}"

    outcomes = []
    async for outcome in tab.stream(generator(), upper):
        outcomes.append(outcome)
        done.set()
    assert outcomes[0].answer == "FIRST" and len(outcomes) == 501


@running
async def test_a_consumer_that_takes_no_outcomes_holds_rows_back() -> None:
    read = 0

    def generator() -> Iterator[str]:
        nonlocal read
        for index in range(1_000_000):
            read += 1
            yield f"q{index}"

    stream = tab.stream(generator(), upper, concurrency=4)
    taken = 0
    async for _ in stream:
        taken += 1
        if taken == 3:
            break
    await asyncio.sleep(0.5)
    before = read
    await asyncio.sleep(0.5)
    assert read == before <= 8_192 + 3
    await stream.aclose()


@running
async def test_slow_calls_have_few_rows_in_hand() -> None:
    read = 0

    async def slow(question: str) -> str:
        await asyncio.sleep(0.05)
        return question

    def generator() -> Iterator[str]:
        nonlocal read
        for index in range(200):
            read += 1
            yield f"q{index}"

    taken = 0
    async for _ in tab.stream(generator(), slow, concurrency=4):
        taken += 1
        assert read - taken <= 64


@running
async def test_ordered_holds_no_more_rows_than_there_may_be_in_hand() -> None:
    read, release = 0, threading.Event()

    async def predict(question: str) -> str:
        while question == "q0" and not release.is_set():
            await asyncio.sleep(0.01)
        return question

    def generator() -> Iterator[str]:
        nonlocal read
        for index in range(30_000):
            read += 1
            yield f"q{index}"

    stream = tab.stream(generator(), predict, ordered=True)
    first = asyncio.ensure_future(anext(stream))
    await asyncio.sleep(1)
    assert read <= 8_192
    release.set()
    assert (await first).index == 0
    indices = [outcome.index async for outcome in stream]
    assert indices == list(range(1, 30_000))


def leaving() -> tuple[Any, list[str], Callable[[str], Awaitable[str]]]:
    """A generator of rows, what happens to it and to its calls, and a predictor whose calls do not end."""
    happened: list[str] = []

    def generator() -> Iterator[str]:
        try:
            for index in range(1_000):
                yield f"q{index}"
        finally:
            happened.append("closed")

    async def predict(question: str) -> str:
        if question == "q0":
            return question
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            happened.append("cancelled")
            raise
        return question

    return generator(), happened, predict


@running
async def test_a_break_cancels_the_calls_in_flight_and_closes_the_generator() -> None:
    generator, happened, predict = leaving()
    started = time.monotonic()
    async with contextlib.aclosing(tab.stream(generator, predict, concurrency=3)) as stream:
        async for outcome in stream:
            assert outcome.answer == "q0"
            break
    assert happened.count("cancelled") >= 2 and "closed" in happened
    assert time.monotonic() - started < 10


@running
async def test_a_break_without_aclosing_ends_it_soon() -> None:
    generator, happened, predict = leaving()
    async for _ in tab.stream(generator, predict, concurrency=3):
        break
    gc.collect()
    for _ in range(200):
        if "closed" in happened and happened.count("cancelled") >= 2:
            return
        await asyncio.sleep(0.05)
    raise AssertionError(happened)


@running
async def test_an_exception_in_the_loop_ends_it() -> None:
    generator, happened, predict = leaving()
    with pytest.raises(ZeroDivisionError):
        async with contextlib.aclosing(tab.stream(generator, predict, concurrency=3)) as stream:
            async for _ in stream:
                raise ZeroDivisionError
    assert "closed" in happened and "cancelled" in happened


@running
async def test_cancellation_is_a_cancelled_error_and_ends_it() -> None:
    generator, happened, predict = leaving()

    async def consume() -> None:
        async for _ in tab.stream(generator, predict, concurrency=3):
            pass

    task = asyncio.create_task(consume())
    await asyncio.sleep(0.5)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert "closed" in happened and "cancelled" in happened


@running
async def test_a_stream_that_is_never_begun_starts_nothing() -> None:
    await tab.stream(rows(3), upper).aclose()
    with pytest.raises(TypeError, match="order"):
        tab.stream(rows(3), upper, order=True)  # type: ignore[call-arg]


@running
async def test_an_error_of_the_rows_comes_after_the_outcomes_that_were_paid_for() -> None:
    async def generator() -> AsyncIterator[str]:
        for index in range(10):
            yield f"q{index}"
        raise LookupError("no more")

    outcomes = []
    with pytest.raises(LookupError, match="no more"):
        async for outcome in tab.stream(generator(), upper):
            outcomes.append(outcome)
    assert len(outcomes) == 10


@running
async def test_a_run_that_stops_early_says_so_after_its_outcomes() -> None:
    async def predict(question: str) -> str:
        if question != "q0":
            raise ValueError("no")
        return question

    outcomes = []
    with pytest.raises(tab.UnfinishedError, match="5 of 6 finished rows failed"):
        async for outcome in tab.stream(rows(1_000), predict, retries=0, max_failures=5, sequential=True):
            outcomes.append(outcome)
    assert [outcome.ok for outcome in outcomes] == [True, False, False, False, False, False]


@running
async def test_a_predictor_that_cannot_be_loaded_is_an_error() -> None:
    with pytest.raises(tab.PredictorError):
        async for _ in tab.stream(rows(1), "no_such_module:predict"):
            pass


@pytest.mark.parametrize("library", [pandas.DataFrame, polars.DataFrame, pyarrow.table])
def test_a_table_is_read_row_by_row(library: Callable[[Any], Any]) -> None:
    async def main() -> list[Any]:
        stream = tab.stream(library({"question": ["a", "b"], "n": [1, 2]}), upper, ordered=True)
        return [(outcome.row, outcome.answer) async for outcome in stream]

    assert asyncio.run(main()) == [({"question": "a", "n": 1}, "A"), ({"question": "b", "n": 2}, "B")]


@pytest.mark.parametrize("rows", ["text", b"text", {"question": "a"}, 5])
def test_what_is_no_rows_is_refused_at_once(rows: Any) -> None:
    with pytest.raises(tab.UsageError, match=f"`rows` is a value of type {type(rows).__name__}"):
        tab.stream(rows, upper)


@running
async def test_no_rows_yield_nothing_and_several_streams_run_at_once() -> None:
    assert [outcome async for outcome in tab.stream([], upper)] == []

    async def count() -> int:
        return len([outcome async for outcome in tab.stream(rows(2_000), upper)])

    assert await asyncio.gather(count(), count(), count()) == [2_000] * 3


class LateRun:
    """A run that is cleared away a while after its end."""

    def __init__(self, run: Any) -> None:
        self.run, self.cleared = run, float("inf")

    def __getattr__(self, name: str) -> Any:
        return getattr(self.run, name)

    def wait(self, seconds: float) -> bool:
        if not self.run.wait(seconds):
            return False
        self.cleared = min(self.cleared, time.monotonic() + 1.5)
        time.sleep(max(0.0, min(seconds, self.cleared - time.monotonic())))
        return time.monotonic() >= self.cleared

    def result(self) -> Any:
        if not self.wait(0.0):
            raise RuntimeError("the job has not ended")
        return self.run.result()


class LateSession:
    made: "ClassVar[list[LateSession]]"

    def __init__(self, *arguments: Any, **options: Any) -> None:
        self.session = Session(*arguments, **options)
        self.run = LateRun(self.session.run)
        self.made.append(self)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.session, name)


@pytest.fixture
def late(monkeypatch: pytest.MonkeyPatch) -> list[LateSession]:
    monkeypatch.setattr("tokio_asyncio_bridge._stream.Session", LateSession)
    monkeypatch.setattr(LateSession, "made", [], raising=False)
    return LateSession.made


def test_a_run_that_is_cleared_away_late_lets_the_loop_turn_and_ends_as_it_did(late: list[LateSession]) -> None:
    async def predict(question: str) -> str:
        raise ValueError("no")

    async def main() -> None:
        longest, last = 0.0, time.monotonic()

        async def watch() -> None:
            nonlocal longest, last
            while True:
                longest, last = max(longest, time.monotonic() - last), time.monotonic()
                await asyncio.sleep(0.01)

        watching = asyncio.create_task(watch())
        with pytest.raises(tab.UnfinishedError, match="rows failed"):
            async for _ in tab.stream(rows(100), predict, retries=0, max_failures=5, sequential=True):
                pass
        watching.cancel()
        assert longest < 0.8

    asyncio.run(main())


def test_a_run_is_waited_for_also_if_its_rows_raise_as_they_are_closed(late: list[LateSession]) -> None:
    async def generator() -> AsyncIterator[str]:
        try:
            while True:
                yield "q"
        finally:
            raise LookupError("closed")

    async def main() -> None:
        with pytest.raises(LookupError, match="closed"):
            async with contextlib.aclosing(tab.stream(generator(), upper)) as stream:
                async for _ in stream:
                    break
        assert late[0].run.wait(0.0)

    asyncio.run(main())


@running
async def test_other_tasks_of_the_loop_go_on() -> None:
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    other = asyncio.create_task(count())
    assert len([outcome async for outcome in tab.stream(rows(5_000), upper)]) == 5_000
    other.cancel()
    assert turns > 10
