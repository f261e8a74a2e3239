"""How often signals are looked for on Python's main thread, and that Ctrl-C ends the reading of a journal."""

import json
from pathlib import Path
from textwrap import dedent

import pytest
from child import run

# It takes long to show that nothing takes long.
pytestmark = pytest.mark.once

# Counts on a handler that notes when it runs. A gap between two notes is a time in which no signal was looked for.
BEGIN = """
import json, os, signal, sys, threading, time
import tokio_asyncio_bridge as tab
from tokio_asyncio_bridge import _native

ROWS = [{"question": f"q{number}"} for number in range(20_000)]

async def answer(question): return question
async def never(question): await __import__("asyncio").sleep(600)

# What is made is not dropped in the time that is measured.
notes, kept = [], []
signal.signal(signal.SIGALRM, lambda *_: notes.append(time.monotonic()))

def measured(name, work):
    notes[:] = [began := time.monotonic()]
    signal.setitimer(signal.ITIMER_REAL, 0.02, 0.02)
    work()
    signal.setitimer(signal.ITIMER_REAL, 0)
    notes.append(time.monotonic())
    long = [gap for gap in map(float.__sub__, notes[1:], notes) if gap > 0.15]
    print(json.dumps([name, notes[-1] - began, long]))

def of_many_left():
    # A session of many rows that have no outcome.
    session = _native.Session(_native.Given(never), [("concurrency", "1000")], total=0, wakes=False)
    while not session.ready(0.1): pass
    session.put(ROWS * 50)
    session.close()
    session.run.kill()
    while not session.run.wait(0.1): pass
    return session

def time_to_read(journal):
    began = time.monotonic()
    _native.Outcomes(journal)
    return time.monotonic() - began

def lengthen(journal, seconds):
    # A journal takes that long to read if each row was answered again and again. What else runs makes some reads slow.
    copies = int(seconds / min(time_to_read(journal) for _ in range(5))) + 1
    lines = open(journal, "rb").read().splitlines(keepends=True)
    answered = b"".join(line for line in lines if b'"outcome"' in line[:40])
    with open(journal, "wb") as file:
        file.writelines([*lines[:-1], *[answered] * copies, lines[-1]])

def long_journal(seconds):
    tab.map(ROWS, answer, journal="run.journal")
    lengthen("run.journal", seconds)
"""


def look(place: Path, code: str) -> None:
    """Runs a program, and fails if signals were not looked for in what it has measured."""
    measured = [json.loads(line) for line in run(place, BEGIN + code).splitlines()]
    assert measured
    for name, seconds, long in measured:
        # In less time, nothing could fail. A busy machine makes long gaps, too, but never most of the time.
        assert seconds >= 0.5 and sum(long) < 0.6 * seconds, (name, seconds, long)


def test_signals_are_looked_for_while_jobs_run_and_their_files_are_read(tmp_path: Path) -> None:
    code = """
    from pathlib import Path
    Path("app.py").write_text("import asyncio\\nasync def slow(question): await asyncio.sleep(0.4); return question\\n")
    Path("few.csv").write_text("question\\n" + "".join(f"q{number}\\n" for number in range(5)))
    Path("many.jsonl").write_text("".join(json.dumps(row) + "\\n" for row in ROWS))
    slow_ones = {"predictor": "app.py:slow", "concurrency": 1}
    measured("process", lambda: tab.process("few.csv", "few.answers.csv", **slow_ones))
    measured("map", lambda: tab.map(ROWS[:5], "app.py:slow", concurrency=1))
    tab.process("many.jsonl", "many.csv", predictor=answer)
    lengthen("many.csv.journal", 2)
    measured("verify", lambda: tab.verify("many.jsonl", "many.csv"))
    measured("export", lambda: tab.export("many.csv", "so-far.csv"))
    measured("resume", lambda: tab.resume("many.csv", predictor=answer))
    measured("merge", lambda: tab.merge("many.jsonl", ["many.csv"], "merged.csv"))
    """
    look(tmp_path, dedent(code))


@pytest.mark.parametrize(
    "code",
    [
        "long_journal(3); measured('a journal is read', lambda: _native.Outcomes('run.journal'))",
        "session = of_many_left(); measured('rows are left', lambda: kept.extend(session.unfinished()))",
    ],
)
def test_signals_are_looked_for_during_a_single_long_call(tmp_path: Path, code: str) -> None:
    look(tmp_path, code)


def test_ctrl_c_ends_the_reading_of_a_journal_at_once_and_the_answers_stay(tmp_path: Path) -> None:
    run(
        tmp_path,
        BEGIN
        + dedent(
            """
            long_journal(3)
            signal.signal(signal.SIGINT, signal.default_int_handler)
            read, sent = _native.Outcomes, []

            def interrupt():
                sent.append(time.monotonic())
                os.kill(os.getpid(), signal.SIGINT)

            def interrupted(journal):
                threading.Timer(0.5, interrupt).start()
                return read(journal)

            before = set(os.listdir("/proc/self/fd")), set(os.listdir(".")), threading.active_count()
            _native.Outcomes = interrupted
            try:
                tab.map(ROWS, answer, journal="run.journal")
                raise AssertionError("it was not interrupted")
            except KeyboardInterrupt as raised:
                # It takes 2.5 s to read on.
                assert time.monotonic() - sent[0] < 1, time.monotonic() - sent[0]
                assert raised.report.rows.ok == len(ROWS) and raised.outcomes == []
                raised.__traceback__ = None
            while threading.active_count() > before[2]:
                time.sleep(0.01)
            assert set(os.listdir("/proc/self/fd")) == before[0] and set(os.listdir(".")) == before[1]
            _native.Outcomes = read
            assert tab.map(ROWS, answer, journal="run.journal").counts == {"ok": len(ROWS)}
            """
        ),
    )
