"""The hand-written script that `seam.py` measures against, and its variants.

It is what one would write: long-lived worker tasks that take rows from a shared iterator, `asyncio.timeout` around each
call, a retry loop, results with slots in a list in the rows' order. Each variant does one part in another way, the last
one all parts that can be faster. `seam.py` compares with whichever is the fastest under a condition.
"""

import asyncio
import dataclasses
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Iterator
from typing import Any

# Calls in flight, the seconds that one may take, and how often it is tried.
CALLS, TIMEOUT, ATTEMPTS = 100, 60, 4

Row = dict[str, str]
Predict = Callable[..., Awaitable[str]]
Script = Callable[[list[Row], Predict], Coroutine[Any, Any, list[Any]]]
# A row and its place.
Entry = tuple[int, Row]
Work = Callable[[Iterable[Entry], list[Any], Predict, type], Coroutine[Any, Any, None]]


class Outcome:
    __slots__ = ("answer", "attempts", "error", "latency", "row")

    def __init__(self, row: Row, answer: str | None, error: Exception | None, attempts: int, latency: float) -> None:
        self.row = row
        self.answer = answer
        self.error = error
        self.attempts = attempts
        self.latency = latency


@dataclasses.dataclass(slots=True)
class DataOutcome:
    row: Row
    answer: str | None
    error: Exception | None
    attempts: int
    latency: float


# The two differ in one line. What would share the others costs a row more than that line does.
async def with_timeout(entries: Iterable[Entry], outcomes: list[Any], predict: Predict, outcome: type) -> None:
    for index, row in entries:
        for attempt in range(1, ATTEMPTS + 1):
            started = time.perf_counter()
            try:
                async with asyncio.timeout(TIMEOUT):
                    answer = await predict(**row)
                outcomes[index] = outcome(row, answer, None, attempt, time.perf_counter() - started)
                break
            except Exception as error:
                if attempt == ATTEMPTS:
                    outcomes[index] = outcome(row, None, error, attempt, time.perf_counter() - started)
                else:
                    await asyncio.sleep(2**attempt)


async def with_wait_for(entries: Iterable[Entry], outcomes: list[Any], predict: Predict, outcome: type) -> None:
    for index, row in entries:
        for attempt in range(1, ATTEMPTS + 1):
            started = time.perf_counter()
            try:
                answer = await asyncio.wait_for(predict(**row), TIMEOUT)
                outcomes[index] = outcome(row, answer, None, attempt, time.perf_counter() - started)
                break
            except Exception as error:
                if attempt == ATTEMPTS:
                    outcomes[index] = outcome(row, None, error, attempt, time.perf_counter() - started)
                else:
                    await asyncio.sleep(2**attempt)


def in_turn(rows: list[Row]) -> Iterator[Entry]:
    return iter(enumerate(rows))


def from_a_queue(rows: list[Row]) -> Iterator[Entry]:
    queue = asyncio.Queue[Any]()
    for entry in [*enumerate(rows), *[None] * CALLS]:
        queue.put_nowait(entry)
    return iter(queue.get_nowait, None)


async def gathered(tasks: Iterable[Coroutine[Any, Any, None]]) -> None:
    await asyncio.gather(*tasks)


async def grouped(tasks: Iterable[Coroutine[Any, Any, None]]) -> None:
    async with asyncio.TaskGroup() as group:
        for task in tasks:
            group.create_task(task)


def script(
    work: Work = with_timeout,
    entries: Callable[[list[Row]], Iterator[Entry]] = in_turn,
    together: Callable[[Iterable[Coroutine[Any, Any, None]]], Awaitable[None]] = gathered,
    outcome: type = Outcome,
) -> Script:
    """A script of these parts. Without any, it is the script."""

    async def run(rows: list[Row], predict: Predict) -> list[Any]:
        outcomes: list[Any] = [None] * len(rows)
        left = entries(rows)
        await together(work(left, outcomes, predict, outcome) for _ in range(CALLS))
        return outcomes

    return run


async def a_task_each(rows: list[Row], predict: Predict) -> list[Any]:
    """The variant with a semaphore and a task for each row."""
    outcomes: list[Any] = [None] * len(rows)
    semaphore = asyncio.Semaphore(CALLS)

    async def answered(entry: Entry) -> None:
        async with semaphore:
            await with_timeout((entry,), outcomes, predict, Outcome)

    await gathered(answered(entry) for entry in enumerate(rows))
    return outcomes


SCRIPTS: dict[str, Script] = {
    "script": script(),
    "wait_for": script(with_wait_for),
    "queue": script(entries=from_a_queue),
    "TaskGroup": script(together=grouped),
    "dataclass": script(outcome=DataOutcome),
    "task a row": a_task_each,
    "wait_for, TaskGroup, dataclass": script(with_wait_for, together=grouped, outcome=DataOutcome),
}
