"""Ctrl-C in each phase of each function: KeyboardInterrupt comes soon, nothing of the run is left, and going on asks
about no row twice. `test_jobs.py` has the phases of `process` from the loading of the predictor on."""

import json
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from subprocess import Popen
from typing import Any

import pytest
from child import end, start

# Within so many seconds the exception is raised, also on a busy machine. A run that waited for what it reads would wait
# for ever, or read to the end.
SOON = 10.0
# No process of a test lives longer, so that no read of what it says, and no write for it, waits for ever.
LONGEST = 120.0
# What is read of an input before the predictor is loaded.
BEGINNING = 16 << 20
# A position in a long file.
MIDDLE = 1 << 20
# Lines whose reading takes much longer than a signal.
LINES = 6_000_000

APP = """
import asyncio, pathlib, time

def note(text):
    with open("calls.txt", "a") as calls:
        calls.write(f"{text}\\n")

def let_go():
    return pathlib.Path("go").exists()

async def answer(question):
    note(question)
    return question.upper()

async def held(question):
    note(question)
    while not let_go():
        await asyncio.sleep(0.01)
    return question.upper()

async def fails(question):
    raise ValueError("no")

def rows(number, seconds=0.0):
    "Rows that come slowly. The file has a byte for each."
    for index in range(number):
        with open("row", "ab", 0) as byte:
            byte.write(b".")
        yield {"question": f"q{index}"}
        time.sleep(seconds)

async def async_rows(number, seconds=0.0):
    for row in rows(number):
        yield row
        await asyncio.sleep(seconds)
"""

# A predictor that says when it is loaded.
NUMBER = """
import pathlib
from app import note

pathlib.Path("loaded").touch()

async def number(number: int):
    note(number)
    return number
"""

PROGRAM = """
import asyncio, json, os, time
from pathlib import Path
import tokio_asyncio_bridge as tab
from app import *
from process_state import differences, settled

# Once for the process, the first run leaves something behind.
tab.map(["warm"], lambda text: text)
while len(os.listdir("/proc/self/task")) > 1:
    time.sleep(0.01)
{job}
def read():
    return int(Path("/proc/self/io").read_text().split()[1])
before, there, begun = settled(), {{*os.listdir()}}, read()
Path("begins").touch()
try:
    job()
    raise SystemExit("it was not interrupted")
except KeyboardInterrupt:
    raised = time.monotonic()
found = read() - begun
left = sorted({{*os.listdir()}} - there - {{"begins", "calls.txt", "go", "loaded", "row"}})
print(json.dumps({{"raised": raised, "read": found, "left": left, "otherwise": differences(before)}}), flush=True)
while not Path("on").exists() and time.monotonic() < raised + 60:
    time.sleep(0.01)
print(again())
"""

# The processes of a test. None is left once it has ended, however it did.
CHILDREN = ExitStack()


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.chdir(tmp_path)
    Path("app.py").write_text(APP)
    Path("typed.py").write_text(NUMBER)
    Path("q.csv").write_text("question\na\nb\nc\n")
    with CHILDREN:
        yield tmp_path


class Interrupted:
    """A process whose job was interrupted in a phase."""

    def __init__(self, place: Path, job: str, phase: Callable[["Popen[str]"], bool], *, calls: int = 0) -> None:
        """`job` defines the functions `job` and `again`. So many calls are in flight, and let go once that is told."""
        self.child = CHILDREN.enter_context(start(place, PROGRAM.format(job=job)))
        CHILDREN.callback(self.child.kill)
        giving_up = threading.Timer(LONGEST, self.child.kill)
        CHILDREN.callback(giving_up.cancel)
        giving_up.start()
        waited_for(lambda: Path("begins").exists(), self.child)
        waited_for(lambda: phase(self.child), self.child)
        sent = time.monotonic()
        self.child.send_signal(signal.SIGINT)
        assert self.child.stdout is not None and self.child.stderr is not None
        if calls:
            assert any(f"for {calls} calls" in line for line in self.child.stderr)
            Path("go").touch()
        told: dict[str, Any] = json.loads(self.child.stdout.readline() or "{}")
        assert told, self.child.communicate()
        Path("go").touch()
        assert told["raised"] - sent < SOON and told["otherwise"] == []
        self.left: list[str] = told["left"]
        self.read: int = told["read"]

    def again(self) -> str:
        """Goes on in the same process, and returns what it says."""
        Path("on").touch()
        return end(self.child, within=60).strip()


def waited_for(what: Callable[[], bool], child: "Popen[str]") -> None:
    until = time.monotonic() + 60
    while not what():
        assert time.monotonic() < until and child.poll() is None, (child.kill(), child.communicate())
        time.sleep(0.005)


def position(child: "Popen[str]", file: str) -> int | None:
    """How far the process has read a file, in bytes; None where it has not opened it."""
    for number in os.listdir(f"/proc/{child.pid}/fd"):
        with suppress(FileNotFoundError):
            if os.readlink(f"/proc/{child.pid}/fd/{number}") == os.path.abspath(file):
                return int(Path(f"/proc/{child.pid}/fdinfo/{number}").read_text().split()[1])
    return None


def is_amid(child: "Popen[str]", file: str) -> bool:
    return MIDDLE < (position(child, file) or 0) < os.path.getsize(file)


def calls() -> list[str]:
    return Path("calls.txt").read_text().split() if Path("calls.txt").exists() else []


def add_lines(file: str, number: int) -> None:
    with open(file, "a") as lines:
        lines.write("".join(f"{10**7 + line}\n" for line in range(number)))


def cut(file: str, lines: int) -> None:
    Path(file).write_text("".join(Path(file).read_text().splitlines(keepends=True)[:lines]))


@pytest.mark.once
@pytest.mark.parametrize("written", [0, 1_000_000])
def test_while_rows_of_a_pipe_are_awaited(place: Path, written: int) -> None:
    os.mkfifo("q.fifo")
    job = """
def job(): return tab.process("q.fifo", "a.csv", predictor="app.py:answer", format="csv")
again = lambda: job().rows.ok
"""
    pipe = list[int]()

    def is_read(child: "Popen[str]") -> bool:
        if position(child, "q.fifo") is not None and written and not pipe:
            pipe.append(os.open("q.fifo", os.O_WRONLY))
            # More than a pipe holds, so the most was taken from it.
            os.write(pipe[0], b"question\n" + b"a\n" * written)
        return position(child, "q.fifo") is not None

    interrupted = Interrupted(place, job, is_read)
    assert interrupted.left == [] and not calls()
    for descriptor in pipe:
        os.close(descriptor)
    Path("on").touch()
    # Where nobody reads it, opening it would wait for ever.
    waited_for(lambda: position(interrupted.child, "q.fifo") is not None, interrupted.child)
    with open("q.fifo", "w") as rows:
        rows.write("question\na\nb\nc\n")
    assert interrupted.again() == "3" and sorted(calls()) == ["a", "b", "c"]


JOBS = {
    "process": 'tab.process("n.csv", "a.csv", predictor="typed.py:number")',
    "resume": 'tab.resume("a.csv")',
    "compare": 'tab.compare("n.csv", predictor="typed.py:number", runs=1, concurrency=[2])',
}


@pytest.mark.once
@pytest.mark.parametrize("function", JOBS)
def test_while_the_input_is_checked(place: Path, function: str) -> None:
    Path("n.csv").write_text("number\n1\n2\n")
    asked = list[str]()
    if function == "resume":
        import tokio_asyncio_bridge as tab

        tab.process("n.csv", "a.csv", predictor="typed.py:number")
        asked = calls()
        Path("loaded").unlink()
    # To check their types takes much longer than to read them.
    add_lines("n.csv", LINES // 3)
    job = f"def job(): return {JOBS[function]}\nagain = lambda: getattr(job(), 'rows', None)"
    interrupted = Interrupted(place, job, lambda child: Path("loaded").exists() and is_amid(child, "n.csv"))
    assert interrupted.left == [] and calls() == asked
    # Its beginning was read before the predictor was loaded, and all of it by `resume`, which looks for changes.
    before = BEGINNING + (os.path.getsize("n.csv") if function == "resume" else 0)
    assert interrupted.read < before + os.path.getsize("n.csv") - MIDDLE
    cut("n.csv", 4)
    interrupted.again()
    assert len(calls()) == (8 if function == "compare" else 3) and {"1", "2"} < {*calls()}


@pytest.mark.once
def test_while_it_is_looked_whether_the_input_has_changed(place: Path) -> None:
    import tokio_asyncio_bridge as tab

    tab.process("q.csv", "a.csv", predictor="app.py:answer")
    asked = calls()
    # In place of an input that is so long that reading it takes a while, one that does not end.
    os.rename("q.csv", "kept.csv")
    os.mkfifo("q.csv")

    def write() -> None:
        with suppress(BrokenPipeError), open("q.csv", "wb", 0) as pipe:
            while True:
                pipe.write(b"a\n")
                time.sleep(0.01)

    threading.Thread(target=write, daemon=True).start()
    job = 'def job(): return tab.resume("a.csv").rows.ok\nagain = job'
    interrupted = Interrupted(place, job, lambda child: position(child, "q.csv") is not None)
    assert interrupted.left == []
    os.rename("kept.csv", "q.csv")
    assert interrupted.again() == "3" and calls() == asked


@pytest.mark.once
@pytest.mark.parametrize("function", ["export", "verify"])
def test_while_the_input_is_read_beside_the_journal(place: Path, function: str) -> None:
    import tokio_asyncio_bridge as tab

    Path("q.csv").write_text("question\n")
    add_lines("q.csv", LINES)
    tab.process("q.csv", "a.csv", predictor="app.py:answer", range=f"{LINES - 3}:")
    before, asked = Path("a.csv").read_bytes(), calls()
    call = {"export": 'tab.export("a.csv")', "verify": 'tab.verify("q.csv", "a.csv")'}[function]
    interrupted = Interrupted(
        place, f"def job(): return {call}\nagain = lambda: job().ok", lambda child: is_amid(child, "q.csv")
    )
    assert interrupted.left == [] and Path("a.csv").read_bytes() == before
    assert interrupted.read < os.path.getsize("q.csv")
    assert interrupted.again() == {"export": "3", "verify": "True"}[function]
    assert Path("a.csv").read_bytes() == before and calls() == asked


@pytest.mark.once
@pytest.mark.parametrize("function", ["resume", "compare", "map", "map with a journal"])
def test_while_calls_are_in_flight(place: Path, function: str) -> None:
    call = {
        "resume": 'tab.resume("a.csv", predictor=held, concurrency=2, allow_changed=True).rows.ok',
        "compare": 'len(tab.compare("q.csv", predictor=held, runs=1, concurrency=[2]).modes)',
        "map": "len(tab.map(rows(3), held, concurrency=2).ok)",
        "map with a journal": 'len(tab.map(rows(3), held, concurrency=2, journal="m.journal").ok)',
    }[function]
    job = f"def job(): return {call}\nagain = job"
    if function == "resume":
        job += "\ntab.process('q.csv', 'a.csv', predictor=fails, retries=0)"
    interrupted = Interrupted(place, job, lambda _: len(calls()) == 2, calls=2)
    assert not any(file.startswith(".") for file in interrupted.left)
    assert interrupted.again() == ("2" if function == "compare" else "3")
    # A comparison and a `map` without a journal begin anew.
    assert len(calls()) == {"compare": 10, "map": 5}.get(function, 3)


STREAM = """
async def streamed(rows, predictor):
    return [outcome async for outcome in tab.stream(rows, predictor, concurrency=2)]
"""


@pytest.mark.once
@pytest.mark.parametrize("function", ["map", "map with a journal", "stream", "stream of an async iterable"])
def test_while_rows_come_slowly(place: Path, function: str) -> None:
    call = {
        "map": "tab.map(given, answer)",
        "map with a journal": 'tab.map(given, answer, journal="m.journal")',
    }.get(function, "asyncio.run(streamed(given, answer))")
    rows = "async_rows" if "async" in function else "rows"
    job = f"{STREAM}\ndef job(given={rows}(10**9, 0.05)): return {call}\nagain = lambda: len(job({rows}(3)))"
    interrupted = Interrupted(place, job, lambda _: Path("row").exists() and os.path.getsize("row") > 3)
    assert interrupted.left == []
    # With a journal, all rows are read before the first call.
    before = len(calls())
    assert before == 0 if "journal" in function else 2 <= before <= os.path.getsize("row")
    assert interrupted.again() == "3" and len(calls()) == before + 3


@pytest.mark.once
def test_while_calls_of_a_stream_are_in_flight(place: Path) -> None:
    job = f"{STREAM}\ndef job(): return asyncio.run(streamed(rows(3), held))\nagain = lambda: len(job())"
    interrupted = Interrupted(place, job, lambda _: len(calls()) == 2)
    assert interrupted.left == []
    assert interrupted.again() == "3" and len(calls()) == 5


EVALUATE = """
import dspy
from dspy.utils import DummyLM

# Without a model of the user's, the local one would be started.
dspy.configure(lm=DummyLM([]))

def metric(example, prediction):
    note(f"metric:{prediction.guess}")
    while prediction.guess == "B" and not let_go():
        time.sleep(0.01)
    return 1.0

async def program(question):
    return dspy.Prediction(guess=await (held if question == "c" else answer)(question))

class Slow(dict):
    "A value that takes long to be kept."
    def items(self):
        for item in {"x": 1, "y": 2}.items():
            pathlib.Path("row").touch()
            yield item
            time.sleep(0 if let_go() else 60)

devset = [dspy.Example(question=name, more=MORE).with_inputs("question") for name in "abc"]
def job(): return tab.evaluate(program, devset, metric, journal="e.journal", concurrency=2)
again = lambda: job().score
"""


@pytest.mark.once
def test_while_the_program_and_the_metric_of_an_evaluation_run(place: Path) -> None:
    job = EVALUATE.replace("MORE", "{}")
    interrupted = Interrupted(place, job, lambda _: {"metric:B", "c"} <= {*calls()}, calls=2)
    assert not any(file.startswith(".") for file in interrupted.left)
    assert interrupted.again() == "100.0"
    assert sorted(calls()) == ["a", "b", "c", "metric:A", "metric:B", "metric:C"]


@pytest.mark.once
def test_while_the_examples_of_an_evaluation_are_kept(place: Path) -> None:
    job = EVALUATE.replace("MORE", "Slow()")
    interrupted = Interrupted(place, job, lambda _: Path("row").exists())
    assert interrupted.left == [] and not calls()
    assert interrupted.again() == "100.0" and len(calls()) == 6
