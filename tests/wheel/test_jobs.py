"""Jobs on files: their reports, several at once, and how Ctrl-C and `stop=` end them."""

import csv
import logging
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import tokio_asyncio_bridge as tab

PREDICTOR = """
import asyncio, os, pathlib, time

CALLS = pathlib.Path(__file__).with_name("calls.txt")

async def answer(question: str) -> str:
    with CALLS.open("a") as calls:
        calls.write(question + "\\n")
    if question == "bad":
        raise ValueError("no answer to this")
    await asyncio.sleep(float(os.environ.get("SLEEP", "0")))
    return question.upper()
"""


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("app.py").write_text(PREDICTOR)
    rows("q.csv", ["a", "b", "c"])
    return tmp_path


def rows(file: str, questions: list[str]) -> None:
    Path(file).write_text("question\n" + "".join(f"{question}\n" for question in questions))


def answers(file: str | Path) -> list[str]:
    with open(file, newline="") as lines:
        return [row["answer"] for row in csv.DictReader(lines)]


def calls() -> list[str]:
    return Path("calls.txt").read_text().split()


def test_process_answers_a_file_and_gives_the_report(place: Path) -> None:
    report = tab.process("q.csv", predictor="app.py:answer", timeout=5.0)
    assert (report.rows.ok, report.rows.total, report.stopped) == (3, 3, None)
    assert answers("q.answers.csv") == ["A", "B", "C"]
    assert report.answers == Path("q.answers.csv")
    assert Path("q.answers.csv.journal").exists() and Path("q.answers.csv.report.html").exists()
    assert report.latency_ms.ok.count == 3
    assert report.run.argv[:2] == ["tokio_asyncio_bridge.process", "q.csv"]


def test_a_job_that_is_done_is_not_run_again(place: Path) -> None:
    tab.process("q.csv", "out.csv", predictor="app.py:answer")
    report = tab.process("q.csv", "out.csv", predictor="app.py:answer")
    assert (report.rows.ok, len(calls())) == (3, 3)
    tab.process("q.csv", "out.csv", predictor="app.py:answer", force=True)
    assert len(calls()) == 6


def test_failed_rows_are_resumed(place: Path) -> None:
    rows("q.csv", ["a", "bad", "c"])
    report = tab.process("q.csv", "out.csv", predictor="app.py:answer", retries=0)
    assert (report.rows.ok, report.rows.failed, report.rows.failed_by_class) == (2, 1, {"ValueError": 1})
    Path("app.py").write_text(PREDICTOR.replace('"bad"', '"worse"'))
    report = tab.resume("out.csv", allow_changed=True)
    assert (report.rows.ok, answers("out.csv")) == (3, ["A", "BAD", "C"])


def test_messages_go_to_logging(place: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="tokio_asyncio_bridge"):
        tab.process("q.csv", predictor="app.py:answer")
    assert any(text.startswith("q.csv: 3 rows; app.py:answer") for text in caplog.messages)


def test_progress_is_told_and_an_exception_in_it_ends_the_run(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLEEP", "0.3")
    seen: list[tab.Progress] = []
    tab.process("q.csv", predictor="app.py:answer", concurrency=1, progress=seen.append)
    assert [(told.total, told.ok) for told in seen][-1] == (3, 3)

    def broken(told: tab.Progress) -> None:
        raise LookupError("no bar")

    with pytest.raises(LookupError, match="no bar") as raised:
        tab.process("q.csv", "other.csv", predictor="app.py:answer", concurrency=1, grace=5.0, progress=broken)
    assert raised.value.report.rows.unfinished > 0  # type: ignore[attr-defined]


def test_stop_ends_a_run_on_another_thread(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLEEP", "0.2")
    rows("q.csv", [f"q{number}" for number in range(200)])
    stop, reports = tab.Stop(), list[tab.Report]()
    work = threading.Thread(
        target=lambda: reports.append(tab.process("q.csv", predictor="app.py:answer", concurrency=2, stop=stop))
    )
    work.start()
    waited_for(lambda: Path("calls.txt").exists())
    stop.stop()
    work.join(10)
    [report] = reports
    assert report.stopped == "interrupted (SIGINT)"
    assert 0 < report.rows.ok < 200 and report.rows.ok + report.rows.unfinished == 200


def waited_for(what: Callable[[], bool], seconds: float = 20.0) -> None:
    until = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < until, "it has not come about"
        time.sleep(0.01)


SCRIPT = """
import signal
import tokio_asyncio_bridge as tab
# A shell starts processes in the background with the signal ignored.
signal.signal(signal.SIGINT, signal.default_int_handler)
try:
    tab.process("q.csv", "out.csv", predictor="app.py:answer", concurrency=2, grace={grace})
except KeyboardInterrupt as interrupt:
    print("interrupted", interrupt.report and interrupt.report.rows.ok)
    raise
"""


class Child:
    """A Python process that runs a job, and its signals."""

    def __init__(self, script: str, **environment: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(script)],
            env={**os.environ, **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def interrupt(self) -> None:
        self.process.send_signal(signal.SIGINT)

    def end(self) -> tuple[int, str, str]:
        out, err = self.process.communicate(timeout=30)
        return self.process.returncode, out, err


def test_ctrl_c_during_calls_writes_the_answers_and_raises(place: Path) -> None:
    rows("q.csv", [f"q{number}" for number in range(100)])
    child = Child(SCRIPT.format(grace="5.0"), SLEEP="0.2")
    waited_for(lambda: Path("calls.txt").exists() and len(calls()) > 4)
    child.interrupt()
    code, out, err = child.end()
    assert code == -signal.SIGINT, err
    ok = int(out.split()[1])
    assert 2 <= ok < 100
    assert len([answer for answer in answers("out.csv") if answer]) == ok == len(calls())


def test_a_second_ctrl_c_ends_a_run_at_once(place: Path) -> None:
    rows("q.csv", [f"q{number}" for number in range(100)])
    child = Child(SCRIPT.format(grace="60.0"), SLEEP="30")
    waited_for(lambda: Path("calls.txt").exists() and len(calls()) == 2)
    child.interrupt()
    time.sleep(0.5)
    assert child.process.poll() is None
    began = time.monotonic()
    child.interrupt()
    code, out, err = child.end()
    assert (code, out) == (-signal.SIGINT, "interrupted None\n"), err
    assert time.monotonic() - began < 5.0


def test_ctrl_c_before_the_first_call_calls_nothing(place: Path) -> None:
    slow = "import pathlib, time\npathlib.Path('loading').touch()\ntime.sleep(1)\n"
    Path("app.py").write_text(slow + PREDICTOR)
    child = Child(SCRIPT.format(grace="5.0"))
    waited_for(lambda: Path("loading").exists())
    child.interrupt()
    code, out, err = child.end()
    assert (code, out) == (-signal.SIGINT, "interrupted None\n"), err
    assert not Path("calls.txt").exists()
