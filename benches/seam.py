"""Measures `map` and `stream` against hand-written scripts: what the seam between Python and the run costs a row.

    python benches/seam.py                   # all conditions, 200,000 rows, 5 rounds
    python benches/seam.py --rows 20000      # a quick look
    python benches/seam.py --variants        # shows each script
    python benches/seam.py --peers           # asyncio alone, async-batch-llm and dspy.Parallel against the script
    python benches/seam.py --binary PROGRAM  # `process` from Python against the stand-alone program

Run it with the Python that a release build of this package is installed in, on a quiet machine (`chrt -f 10` in front
where others build). The predictor is an async function that returns at once, or after one `sleep(0)`. 100 calls are in
flight. A figure is the time from the call to the list of typed outcomes, starting and ending the event loop included,
as microseconds a row. All contenders have their turn in each round, and the medians are compared: in brackets, how many
times as fast as the fastest of the scripts under this condition. The scripts are in `seam_scripts.py`.
"""

import argparse
import asyncio
import contextlib
import gc
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import tokio_asyncio_bridge as tab
from seam_scripts import CALLS, SCRIPTS


async def at_once(question: str) -> str:
    return question


async def sleep_zero(question: str) -> str:
    await asyncio.sleep(0)
    return question


async def bare(rows: list[dict[str, str]], predict: Callable[..., Awaitable[str]]) -> list[Any]:
    """The floor: worker tasks without timeout, retries or outcomes."""
    answers: list[Any] = [None] * len(rows)
    left = iter(enumerate(rows))

    async def work() -> None:
        for index, row in left:
            answers[index] = await predict(**row)

    await asyncio.gather(*(work() for _ in range(CALLS)))
    return answers


async def streamed(rows: list[dict[str, str]], predict: Callable[..., Awaitable[str]], loop: str) -> list[Any]:
    return [outcome async for outcome in tab.stream(rows, predict, concurrency=CALLS, event_loop=loop)]


async def batch_llm(rows: list[dict[str, str]], predict: Callable[..., Awaitable[str]]) -> list[Any]:
    from async_batch_llm import CallableStrategy, CallOutcome, process_prompts

    async def invoke(prompt: str, *, attempt: int, timeout: float, state: Any) -> Any:
        return CallOutcome(output=await predict(question=prompt))

    result = await process_prompts(CallableStrategy(invoke), [row["question"] for row in rows], concurrency=CALLS)
    return list(result.results)


def parallel(rows: list[dict[str, str]], predict: Callable[..., Awaitable[str]]) -> list[Any]:
    import dspy

    class Program(dspy.Module):
        def forward(self, question: str) -> str:
            return asyncio.run(predict(question))

    program = Program()
    examples = [(program, dspy.Example(**row).with_inputs("question")) for row in rows]
    with contextlib.redirect_stderr(open(os.devnull, "w")):
        results: list[Any] = dspy.Parallel(num_threads=CALLS, disable_progress_bar=True)(examples)
    return results


Contender = Callable[[list[dict[str, str]], Callable[..., Awaitable[str]], str], list[Any]]


def in_loop(main: Callable[..., Any]) -> Contender:
    """Runs a coroutine function on a new loop of the kind."""

    def run(rows: list[dict[str, str]], predict: Callable[..., Awaitable[str]], loop: str) -> list[Any]:
        arguments = (rows, predict, loop) if main is streamed else (rows, predict)
        with asyncio.Runner(loop_factory=factory(loop)) as runner:
            outcomes: list[Any] = runner.run(main(*arguments))
            return outcomes

    return run


def factory(loop: str) -> Callable[[], asyncio.AbstractEventLoop]:
    if loop == "asyncio":
        return asyncio.new_event_loop
    import uvloop

    return uvloop.new_event_loop


OWN: dict[str, Contender] = {
    "map": lambda rows, predict, loop: list(tab.map(rows, predict, concurrency=CALLS, event_loop=loop)),
    "stream": in_loop(streamed),
}
PEERS: dict[str, Contender] = {
    "asyncio alone": in_loop(bare),
    "async-batch-llm": in_loop(batch_llm),
    "dspy.Parallel": lambda rows, predict, _: parallel(rows, predict),
}
# Rows that the slow ones take no longer than a few seconds for.
MOST = {"task a row": 50_000, "async-batch-llm": 5_000, "dspy.Parallel": 2_000}


def measured(contender: Contender, count: int, predict: Callable[..., Awaitable[str]], loop: str) -> float:
    """Microseconds a row."""
    rows = [{"question": f"q{index}"} for index in range(count)]
    gc.collect()
    started = time.perf_counter()
    outcomes = contender(rows, predict, loop)
    took = time.perf_counter() - started
    assert len(outcomes) == count
    if isinstance(outcomes[0], tab.Outcome):
        assert all(outcome.answer == outcome.row["question"] for outcome in outcomes)
    return took / count * 1e6


def against_binary(binary: str, count: int, rounds: int) -> None:
    """Compares whole processes, from start to end: a Python process that calls `process`, and the program."""
    with tempfile.TemporaryDirectory() as directory:
        questions, code = Path(directory) / "questions.csv", Path(directory) / "app.py"
        questions.write_text("question\n" + "".join(f"q{index}\n" for index in range(count)))
        code.write_text("async def answer(question):\n    return question\n")
        options = {"predictor": f"{code}:answer", "concurrency": CALLS, "event_loop": "asyncio"}
        call = f"import tokio_asyncio_bridge as tab; tab.process({str(questions)!r}, 'python.csv', **{options!r})"
        flags = [f"--{name.replace('_', '-')}={value}" for name, value in options.items()]
        commands = {
            "the program": [binary, "process", str(questions), "-o", "program.csv", "--quiet", *flags],
            "process from Python": [sys.executable, "-c", call],
        }
        took: dict[str, list[float]] = {name: [] for name in commands}
        for _ in range(rounds):
            for name, command in commands.items():
                for file in Path(directory).glob("p*.csv*"):
                    file.unlink()
                started = time.perf_counter()
                subprocess.run(command, cwd=directory, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
                took[name].append((time.perf_counter() - started) / count * 1e6)
        medians = {name: statistics.median(times) for name, times in took.items()}
        for name, median in medians.items():
            print(f"{name}: {median:.2f} ({median / medians['the program']:.2f} of the program)")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--variants", action="store_true")
    parser.add_argument("--peers", action="store_true")
    parser.add_argument("--binary")
    options = parser.parse_args()
    if options.binary is not None:
        return against_binary(os.path.abspath(options.binary), options.rows, options.rounds)
    scripts = {name: in_loop(script) for name, script in SCRIPTS.items()}
    contenders = scripts | (PEERS if options.peers else OWN)
    shown = [name for name in contenders if options.variants or name not in scripts]
    print(f"Python {sys.version.split()[0]}, {os.cpu_count()} cores, {options.rows} rows, {CALLS} calls in flight")
    print("| loop, predictor | fastest script | " + " | ".join(shown) + " |")
    print("| --- |" + " --- |" * (1 + len(shown)))
    for loop in ("asyncio", "uvloop"):
        for predict in (at_once, sleep_zero):
            took: dict[str, list[float]] = {name: [] for name in contenders}
            for _ in range(options.rounds):
                for name, contender in contenders.items():
                    count = min(options.rows, MOST.get(name, options.rows))
                    took[name].append(measured(contender, count, predict, loop))
            medians = {name: statistics.median(times) for name, times in took.items()}
            fastest = min(scripts, key=medians.__getitem__)
            cells = [f"{medians[name]:.2f} ({medians[fastest] / medians[name]:.2f})" for name in shown]
            print(
                f"| {loop}, {predict.__name__} | {medians[fastest]:.2f} ({fastest}) | {' | '.join(cells)} |", flush=True
            )


if __name__ == "__main__":
    main()
