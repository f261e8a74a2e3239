"""Measures worker processes: the program with `--workers 2` beside one process, and beside two that share nothing.

    python benches/workers.py PROGRAM                  # all conditions, 3 rounds
    python benches/workers.py PROGRAM dspy at_once     # some of them: dspy http at_once sleep_zero spin start
    python benches/workers.py PROGRAM --peers          # also a pool of processes, and loky (`pip install joblib`)
    python benches/workers.py PROGRAM --rounds 5 --scale 0.1

PROGRAM is a release build of the stand-alone program. Run it with the Python of `.venv`, which has DSPy, on a quiet
machine with two cores: workers and coordinator share them. All contenders have their turn in each round, and the
medians are compared. A figure is the wall time that the report tells (from the first call to the last record), so that
starting Python and importing the predictor are not in it; the processor time is that of the whole process tree.

- `in-process`: one process, as without the option.
- `--workers 2`.
- `two halves`: two programs at the same time, each with half of the rows and half of the calls in flight. They share
  no journal, no pace and no budget, and write two answers files: the most that two cores can give.
- `pool`: `concurrent.futures.ProcessPoolExecutor` with two processes and an event loop in each; `loky`: joblib's
  processes in its place. Rows are handed to them in chunks of 1,000. They write nothing. loky's processes outlive the
  measurement, so their processor time is not told.
"""

import argparse
import asyncio
import contextlib
import functools
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

sys.path.append(str(Path(__file__).parent / "faults"))
import servers

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"

CHUNK = 1_000

PREDICTORS = """
import asyncio, time

async def at_once(question):
    return question

async def sleep_zero(question):
    await asyncio.sleep(0)
    return question

async def spin(question):
    until = time.thread_time() + 0.005
    while time.thread_time() < until:
        pass
    return question
"""

REPLY = "[[ ## reasoning ## ]]\nBy heart.\n\n[[ ## answer ## ]]\nAnswer\n\n[[ ## completed ## ]]"

DSPY = """
import dspy

lm = dspy.LM("openai/gpt-4o-mini", cache=False, num_retries=0, **model())
dspy.configure(lm=lm, adapter=dspy.ChatAdapter(use_json_adapter_fallback=False), disable_history=True)
predict = dspy.ChainOfThought("question -> answer")

async def answer(question):
    return (await predict.acall(question=question)).answer
"""

# A model that costs nothing: DSPy's own work, without HTTP.
CANNED = f"""
def model():
    from dspy.lm15 import Message, Response, TextPart, Usage

    class Canned:
        def complete(self, request):
            usage = Usage(input_tokens=100, output_tokens=10, total_tokens=110)
            reply = Message.assistant([TextPart({REPLY!r})])
            return Response(id=None, model="canned", message=reply, finish_reason="stop", usage=usage)

    class AsyncCanned(Canned):
        async def complete(self, request):
            return super().complete(request)

    return {{"engine": Canned(), "async_engine": AsyncCanned()}}
"""

# A scripted server, which has a share of the cores but not of the processor time that is told.
SCRIPTED = """
def model():
    import os

    return {"api_base": os.environ["SERVER"], "api_key": "none"}
"""


class Condition(NamedTuple):
    """What is answered: the predictor's SPEC, so many rows, so many calls in flight."""

    spec: str
    rows: int
    in_flight: int


CONDITIONS = {
    "dspy": Condition("free.py:predict", 10_000, 64),
    "http": Condition("scripted.py:predict", 4_000, 64),
    "at_once": Condition("app.py:at_once", 1_000_000, 1_000),
    "sleep_zero": Condition("app.py:sleep_zero", 1_000_000, 1_000),
    "spin": Condition("app.py:spin", 2_000, 16),
}


class Cost(NamedTuple):
    wall_s: float
    cpu_s: float


def processor_s() -> float:
    own, children = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
    return own.ru_utime + own.ru_stime + children.ru_utime + children.ru_stime


class Bench:
    """The program, and a directory with the predictors and the inputs."""

    def __init__(self, program: str, directory: Path) -> None:
        self.program = str(Path(program).resolve())
        self.directory = directory
        (directory / "app.py").write_text(PREDICTORS)
        (directory / "free.py").write_text(CANNED + DSPY)
        (directory / "scripted.py").write_text(SCRIPTED + DSPY)

    def questions(self, count: int) -> Path:
        path = self.directory / f"questions{count}.csv"
        if not path.exists():
            path.write_text("question\n" + "".join(f"q{row}\n" for row in range(count)))
        return path

    def start(self, condition: Condition, name: str, *flags: str) -> subprocess.Popen[bytes]:
        command = [self.program, "process", str(self.questions(condition.rows)), "-o", f"{name}.csv", "--force", "-q"]
        command += ["--predictor", condition.spec, "-c", str(condition.in_flight), "--event-loop", "auto"]
        command += ["--python", sys.executable, "--no-html", *flags]
        return subprocess.Popen(command, cwd=self.directory, stdout=subprocess.DEVNULL)

    def ended(self, runs: Iterable[tuple[str, subprocess.Popen[bytes]]], rows: int) -> float:
        """The longest wall time of these runs, which must have answered so many rows in all."""
        wall, answered = 0.0, 0
        for name, run in list(runs):
            assert run.wait() == 0, f"{name} failed"
            report = json.loads((self.directory / f"{name}.csv.report.json").read_text())
            wall, answered = max(wall, report["wall_s"]), answered + report["rows"]["ok"]
        assert answered == rows, f"{answered} of {rows} rows were answered"
        return wall

    def by_program(self, condition: Condition, *flags: str) -> float:
        return self.ended([("all", self.start(condition, "all", *flags))], condition.rows)

    def by_halves(self, condition: Condition) -> float:
        half = condition._replace(rows=condition.rows // 2, in_flight=condition.in_flight // 2)
        return self.ended([(name, self.start(half, name)) for name in ("one", "other")], condition.rows)

    def by_processes(self, condition: Condition, run: Callable[[Any, list[list[str]]], int]) -> float:
        chunks = chunked(condition.rows)
        work = functools.partial(many, str(self.directory), condition.spec, condition.in_flight // 2)
        started = time.perf_counter()
        assert run(work, chunks) == condition.rows
        return time.perf_counter() - started


def chunked(rows: int) -> list[list[str]]:
    return [[f"q{row}" for row in range(start, min(start + CHUNK, rows))] for start in range(0, rows, CHUNK)]


def loaded(directory: str, spec: str) -> Callable[[str], Any]:
    if directory not in sys.path:
        sys.path.insert(0, directory)
    file, name = spec.split(":")
    module = __import__(Path(file).stem)
    found: Callable[[str], Any] = getattr(module, "answer" if name == "predict" else name)
    return found


def many(directory: str, spec: str, in_flight: int, questions: list[str]) -> int:
    """One chunk, in a process of a pool."""
    predict = loaded(directory, spec)

    async def run() -> int:
        answers: list[Any] = []
        left = iter(questions)

        async def work() -> None:
            for question in left:
                async with asyncio.timeout(60):
                    answers.append(await predict(question))

        await asyncio.gather(*(work() for _ in range(in_flight)))
        return len(answers)

    return asyncio.run(run())


def by_pool(work: Callable[[list[str]], int], chunks: list[list[str]]) -> int:
    with ProcessPoolExecutor(2) as pool:
        return sum(pool.map(work, chunks))


def by_loky(work: Callable[[list[str]], int], chunks: list[list[str]]) -> int:
    from joblib import Parallel, delayed

    return sum(Parallel(n_jobs=2, backend="loky")(delayed(work)(chunk) for chunk in chunks))


def cost(measure: Callable[[], float]) -> Cost:
    before = processor_s()
    wall = measure()
    return Cost(wall, processor_s() - before)


def compare(bench: Bench, name: str, condition: Condition, rounds: int, peers: bool) -> None:
    contenders: dict[str, Callable[[], float]] = {
        "in-process": lambda: bench.by_program(condition),
        "--workers 2": lambda: bench.by_program(condition, "--workers", "2"),
        "two halves": lambda: bench.by_halves(condition),
    }
    if peers:
        contenders["pool"] = lambda: bench.by_processes(condition, by_pool)
        contenders["loky"] = lambda: bench.by_processes(condition, by_loky)
    costs: dict[str, list[Cost]] = {contender: [] for contender in contenders}
    for _ in range(rounds):
        for contender, measure in contenders.items():
            costs[contender].append(cost(measure))
    print(f"{name}: {condition.rows} rows, {condition.in_flight} in flight (median of {rounds}, in turn)")
    halves = statistics.median(one.wall_s for one in costs["two halves"])
    alone = statistics.median(one.cpu_s for one in costs["in-process"])
    for contender, found in costs.items():
        wall, cpu = (statistics.median(values) for values in zip(*found, strict=True))
        more = (cpu - alone) / condition.rows * 1e6
        print(
            f"  {contender:12} {condition.rows / wall:9.0f} rows/s, {halves / wall:5.2f} of two halves;"
            f" processor {cpu / condition.rows * 1e6:7.2f} us a row ({more:+.2f})"
        )
    print(flush=True)


@contextlib.contextmanager
def served(directory: Path) -> Iterator[None]:
    """A running server that gives every question the same answer."""
    fixture = {"match": {"userMessage": "q"}, "response": {"content": REPLY}}
    with servers.served(directory, [fixture]) as url:
        os.environ["SERVER"] = f"{url}/v1"
        yield


def start(bench: Bench, rounds: int) -> None:
    """How long one row takes, from the start of the program to its end: in-process, with one worker and with two."""
    condition = Condition("app.py:at_once", 1, 2)
    took: dict[str, list[float]] = {"in-process": [], "--workers 1": [], "--workers 2": []}
    for _ in range(rounds * 3):
        for flags, times in took.items():
            started = time.perf_counter()
            bench.by_program(condition, *(flags.split() if flags != "in-process" else []))
            times.append(time.perf_counter() - started)
    print(f"start: one row, the whole process (median of {rounds * 3}, in turn)")
    for flags, times in took.items():
        print(f"  {flags:12} {statistics.median(times):.3f} s")
    print(flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program")
    parser.add_argument("conditions", nargs="*", metavar="CONDITION")
    parser.add_argument("--peers", action="store_true")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--scale", type=float, default=1.0, help="a share of the rows, for a quick look")
    options = parser.parse_args()
    names = options.conditions or [*CONDITIONS, "start"]
    with tempfile.TemporaryDirectory(dir="target") as directory:
        bench = Bench(options.program, Path(directory).resolve())
        for name in names:
            if name == "start":
                start(bench, options.rounds)
                continue
            condition = CONDITIONS[name]
            rows = max(int(condition.rows * options.scale) // 2 * 2, 2)
            with served(bench.directory) if name == "http" else contextlib.nullcontext():
                compare(bench, name, condition._replace(rows=rows), options.rounds, options.peers)


if __name__ == "__main__":
    main()
