"""What people write without this project, for the benches to be measured against; and the least that asyncio costs.

script.py floor|script ROWS PREDICTOR asyncio|uvloop      prints the seconds that the calls took
script.py pipeline INPUT OUTPUT PREDICTOR asyncio|uvloop  answers a CSV file, one JSON line a row
"""

import asyncio
import csv
import json
import sys
import time
from collections.abc import Awaitable, Callable, Coroutine

IN_FLIGHT = 100

Predictor = Callable[[str], Awaitable[str]]


async def at_once(question: str) -> str:
    return question


async def sleep_zero(question: str) -> str:
    await asyncio.sleep(0)
    return question


async def floor(rows: int, predict: Predictor) -> float:
    """Long-lived tasks that only call: no timeout, no task a row."""
    questions = iter([f"question {row}" for row in range(rows)])

    async def work() -> None:
        for question in questions:
            await predict(question)

    started = time.perf_counter()
    await asyncio.gather(*(work() for _ in range(IN_FLIGHT)))
    return time.perf_counter() - started


async def script(rows: int, predict: Predictor) -> float:
    """A task a row, held back by a semaphore, each under a timeout."""
    questions = [f"question {row}" for row in range(rows)]
    semaphore = asyncio.Semaphore(IN_FLIGHT)

    async def answer(question: str) -> str:
        async with semaphore, asyncio.timeout(60):
            return await predict(question)

    started = time.perf_counter()
    await asyncio.gather(*map(answer, questions))
    return time.perf_counter() - started


async def retried(question: str, predict: Predictor) -> tuple[str, int]:
    for attempt in range(1, 4):
        try:
            async with asyncio.timeout(60):
                return await predict(question), attempt
        except (TimeoutError, ConnectionError):
            await asyncio.sleep(2**attempt)
    async with asyncio.timeout(60):
        return await predict(question), 4


async def pipeline(source: str, target: str, predict: Predictor) -> None:
    """CSV in; semaphore, timeout, retries; a line appended and flushed an answer."""
    semaphore = asyncio.Semaphore(IN_FLIGHT)

    with open(source, newline="") as rows, open(target, "a") as answers:

        async def answer(row: dict[str, str]) -> None:
            try:
                text, attempts = await retried(row["question"], predict)
                record = row | {"answer": text, "status": "ok", "attempts": attempts}
            except Exception as error:
                record = row | {"status": "failed", "error": repr(error)}
            finally:
                semaphore.release()
            answers.write(json.dumps(record) + "\n")
            answers.flush()

        async with asyncio.TaskGroup() as group:
            for row in csv.DictReader(rows):
                await semaphore.acquire()
                group.create_task(answer(row))


def main() -> None:
    match sys.argv[1:]:
        case ["pipeline", source, target, predictor, kind]:
            job: Coroutine[None, None, float | None] = pipeline(source, target, globals()[predictor])
        case [name, rows, predictor, kind]:
            job = globals()[name](int(rows), globals()[predictor])
        case _:
            sys.exit(__doc__)
    if kind == "uvloop":
        import uvloop

        factory: Callable[[], asyncio.AbstractEventLoop] | None = uvloop.new_event_loop
    else:
        factory = None
    with asyncio.Runner(loop_factory=factory) as runner:
        print(runner.run(job))


if __name__ == "__main__":
    main()
