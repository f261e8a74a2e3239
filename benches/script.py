"""What people write without this project, for the benches to be measured against; and the least that asyncio costs.

script.py DESIGN ROWS IN_FLIGHT PREDICTOR LOOP           calls only: DESIGN is floor, floor_timeout or script
script.py FORM INPUT OUTPUT IN_FLIGHT PREDICTOR LOOP     CSV in, JSON lines out: FORM is semaphore or workers
script.py IN_FLIGHT                                      memory of so many tasks that wait

LOOP is asyncio or uvloop. Prints the seconds the work took, of the wall and of the processor; or bytes a task.
"""

import asyncio
import csv
import json
import sys
import time
from collections.abc import Awaitable, Callable
from typing import TextIO

Predictor = Callable[[str], Awaitable[str]]


async def at_once(question: str) -> str:
    return question


async def sleep_zero(question: str) -> str:
    await asyncio.sleep(0)
    return question


async def sleep_50_ms(question: str) -> str:
    await asyncio.sleep(0.05)
    return question


async def hold(question: str) -> str:
    await asyncio.sleep(3600)
    return question


async def floor(rows: int, in_flight: int, predict: Predictor) -> None:
    """Long-lived tasks that only call: no timeout, no task a row."""
    questions = (f"question {row}" for row in range(rows))

    async def work() -> None:
        for question in questions:
            await predict(question)

    await asyncio.gather(*(work() for _ in range(in_flight)))


async def floor_timeout(rows: int, in_flight: int, predict: Predictor) -> None:
    """The same, each call under a timeout."""
    questions = (f"question {row}" for row in range(rows))

    async def work() -> None:
        for question in questions:
            async with asyncio.timeout(60):
                await predict(question)

    await asyncio.gather(*(work() for _ in range(in_flight)))


async def script(rows: int, in_flight: int, predict: Predictor) -> None:
    """A task a row, as many as a semaphore lets in, each under a timeout."""
    semaphore = asyncio.Semaphore(in_flight)

    async def answer(question: str) -> None:
        try:
            async with asyncio.timeout(60):
                await predict(question)
        finally:
            semaphore.release()

    async with asyncio.TaskGroup() as group:
        for row in range(rows):
            await semaphore.acquire()
            group.create_task(answer(f"question {row}"))


async def retried(question: str, predict: Predictor) -> tuple[str, int]:
    for attempt in range(1, 4):
        try:
            async with asyncio.timeout(60):
                return await predict(question), attempt
        except (TimeoutError, ConnectionError):
            await asyncio.sleep(2**attempt)
    async with asyncio.timeout(60):
        return await predict(question), 4


async def record(row: dict[str, str], predict: Predictor, answers: TextIO) -> None:
    """One row: its answer or its failure, appended and flushed as one line."""
    try:
        text, attempts = await retried(row["question"], predict)
        line = row | {"answer": text, "status": "ok", "attempts": attempts}
    except Exception as error:
        line = row | {"status": "failed", "error": repr(error)}
    answers.write(json.dumps(line) + "\n")
    answers.flush()


async def semaphore(rows: csv.DictReader, answers: TextIO, in_flight: int, predict: Predictor) -> None:
    """A task a row, as many as a semaphore lets in."""
    permits = asyncio.Semaphore(in_flight)

    async def answer(row: dict[str, str]) -> None:
        try:
            await record(row, predict, answers)
        finally:
            permits.release()

    async with asyncio.TaskGroup() as group:
        for row in rows:
            await permits.acquire()
            group.create_task(answer(row))


async def workers(rows: csv.DictReader, answers: TextIO, in_flight: int, predict: Predictor) -> None:
    """So many tasks, each taking row after row."""

    async def work() -> None:
        for row in rows:
            await record(row, predict, answers)

    async with asyncio.TaskGroup() as group:
        for _ in range(in_flight):
            group.create_task(work())


async def memory(in_flight: int) -> float:
    """Bytes a task costs that waits in a call under a timeout."""

    def resident() -> int:
        with open("/proc/self/statm") as statm:
            return int(statm.read().split()[1]) * 4096

    async def answer(question: str) -> None:
        async with asyncio.timeout(7200):
            await hold(question)

    before = resident()
    tasks = [asyncio.create_task(answer(f"question {row}")) for row in range(in_flight)]
    await asyncio.sleep(0.1)
    held = resident() - before
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    return held / in_flight


async def measured(job: Callable[[], Awaitable[None]]) -> None:
    wall, processor = time.perf_counter(), time.process_time()
    await job()
    print(time.perf_counter() - wall, time.process_time() - processor)


def main() -> None:
    match sys.argv[1:]:
        case [form, source, target, in_flight, predictor, kind]:
            with open(source, newline="") as rows, open(target, "a") as answers:
                reader, calls = csv.DictReader(rows), int(in_flight)
                run(lambda: globals()[form](reader, answers, calls, globals()[predictor]), kind)
        case [design, rows, in_flight, predictor, kind]:
            run(lambda: globals()[design](int(rows), int(in_flight), globals()[predictor]), kind)
        case [in_flight]:
            print(asyncio.run(memory(int(in_flight))), 0)
        case _:
            sys.exit(__doc__)


def run(job: Callable[[], Awaitable[None]], kind: str) -> None:
    factory: Callable[[], asyncio.AbstractEventLoop] | None = None
    if kind == "uvloop":
        import uvloop

        factory = uvloop.new_event_loop
    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(measured(job))


if __name__ == "__main__":
    main()
