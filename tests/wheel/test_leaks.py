"""What a hundred runs in one process leave behind."""

from pathlib import Path

import pytest
from child import run

PROGRAM = """
import asyncio, gc, sys, threading
from pathlib import Path
import tokio_asyncio_bridge as tab
from process_state import differences, settled

Path("q.csv").write_text("question\\n" + "a\\nb\\n" * 25)
Path("app.py").write_text('''
import asyncio
LARGE = bytes(b"x") * 1_000_000
async def answer(question): await asyncio.sleep(0); return question
def plain(question): return question
async def thread(question): return await asyncio.to_thread(str.upper, question)
async def fails(question):
    if question == "b": raise ValueError(LARGE[:1000])
    return question
''')
NAMES = ("answer", "plain", "thread", "fails")
ROWS = [{"question": name} for name in "ab" * 25]

class Predictor:
    "An object that is large, and of which each run has its own."
    def __init__(self, turn):
        self.turn = turn
        self.large = bytes(b"x") * 1_000_000
    async def __call__(self, question):
        if self.turn % 4 == 2: return await asyncio.to_thread(str.upper, question)
        if self.turn % 4 == 3 and question == "b": raise ValueError(self.large[:1000])
        await asyncio.sleep(0)
        return question

def loop(turn):
    return "asyncio" if turn % 8 < 4 else "auto"

def process(turn):
    spec = f"app.py:{NAMES[turn % len(NAMES)]}"
    report = tab.process("q.csv", "a.csv", predictor=spec, event_loop=loop(turn), force=True)
    return report.rows.ok + report.rows.failed

def process_an_object(turn):
    report = tab.process("q.csv", "a.csv", predictor=Predictor(turn), event_loop=loop(turn), retries=0, force=True)
    return report.rows.ok + report.rows.failed

def map(turn):
    rows = ROWS if turn % 2 else iter(ROWS)
    return len(tab.map(rows, Predictor(turn), event_loop=loop(turn), retries=0))

def stream(turn):
    async def streamed():
        outcomes = tab.stream(ROWS, Predictor(turn), event_loop=loop(turn), retries=0, ordered=turn % 3 == 0)
        if turn % 5 == 0:  # It is left early.
            await anext(outcomes)
            await outcomes.aclose()
            return 50
        return len([outcome async for outcome in outcomes])
    return asyncio.run(streamed())

def compare(turn):
    tab.compare("q.csv", predictor=Predictor(turn), event_loop=loop(turn), retries=0, runs=1, concurrency=[8])
    return 50

def evaluate(turn):
    import dspy
    from dspy.utils import DummyLM
    devset = [dspy.Example(**row).with_inputs("question") for row in ROWS]
    predictor = Predictor(turn)
    async def program(question):
        return dspy.Prediction(answer=await predictor(question))
    with dspy.context(lm=DummyLM([])):
        return len(tab.evaluate(program, devset, lambda *_: 1.0, event_loop=loop(turn), retries=0).results)

def resident():
    line = next(line for line in open("/proc/self/status") if line.startswith("VmRSS:"))
    return int(line.split()[1]) // 1024

def runs(number):
    for turn in range(number):
        assert FUNCTION(turn) == 50

def objects():
    gc.collect()
    kinds = ("Task", "Loop", "_UnixSelectorEventLoop", "Context", "Thread", "_DummyThread", "Run", "Pool", "Worker",
             "Session", "Outcome", "Predictor")
    return sorted(type(one).__name__ for one in gc.get_objects() if type(one).__name__ in kinds)

runs(24)
before, memory, modules, alive = settled(), resident(), len(sys.modules), objects()
blocks = sys.getallocatedblocks()
runs(100)
found = differences(before)
assert not found, found
assert len(sys.modules) == modules
assert objects() == alive, (objects(), alive)
# A run that left its module or its predictor behind would leave a megabyte.
assert resident() <= memory + 30, f"{memory} MB, then {resident()} MB"
assert sys.getallocatedblocks() <= blocks + 5_000, (blocks, sys.getallocatedblocks())
"""


@pytest.mark.leaks
@pytest.mark.parametrize("function", ["process", "process_an_object", "map", "stream", "compare", "evaluate"])
def test_a_hundred_runs_leave_neither_memory_nor_files_nor_threads_nor_objects(tmp_path: Path, function: str) -> None:
    run(tmp_path, PROGRAM.replace("FUNCTION", function))
