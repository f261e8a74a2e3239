"""What a hundred runs in one process leave behind."""

from pathlib import Path

import pytest
from child import run


@pytest.mark.leaks
def test_a_hundred_runs_leave_neither_memory_nor_files_nor_threads_nor_objects(tmp_path: Path) -> None:
    run(
        tmp_path,
        """
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

def resident():
    line = next(line for line in open("/proc/self/status") if line.startswith("VmRSS:"))
    return int(line.split()[1]) // 1024

def runs(number):
    for turn in range(number):
        name = NAMES[turn % len(NAMES)]
        kind = "asyncio" if turn % 8 < 4 else "auto"
        report = tab.process("q.csv", "a.csv", predictor=f"app.py:{name}", event_loop=kind, force=True)
        assert report.rows.ok + report.rows.failed == 50

def objects():
    gc.collect()
    kinds = ("Task", "Loop", "_UnixSelectorEventLoop", "Context", "Thread", "_DummyThread", "Run", "Pool", "Worker")
    return sorted(type(one).__name__ for one in gc.get_objects() if type(one).__name__ in kinds)

runs(24)
before, memory, modules, alive = settled(), resident(), len(sys.modules), objects()
blocks = sys.getallocatedblocks()
runs(100)
found = differences(before)
assert not found, found
assert len(sys.modules) == modules
assert objects() == alive, (objects(), alive)
# A run that left its module behind would leave a megabyte.
assert resident() <= memory + 30, f"{memory} MB, then {resident()} MB"
assert sys.getallocatedblocks() <= blocks + 5_000, (blocks, sys.getallocatedblocks())
""",
    )
