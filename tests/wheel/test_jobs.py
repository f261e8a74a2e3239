"""Jobs on files: their reports, several at once, and how Ctrl-C and `stop=` end them."""

import contextlib
import csv
import json
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


@pytest.mark.parametrize("requests", [1, 2])
def test_a_stop_that_was_used_before_lets_nothing_be_called(place: Path, requests: int) -> None:
    stop, called = tab.Stop(), list[str]()
    for _ in range(requests):
        stop.stop()

    async def answer(question: str) -> str:
        called.append(question)
        raise ValueError("no")

    tab.process("q.csv", "begun.csv", predictor=answer, retries=0, max_failures="100%")
    called.clear()
    files = sorted(place.iterdir())
    for _ in range(3):
        with pytest.raises(tab.StoppedError, match="before its first call"):
            tab.process("q.csv", predictor=answer, stop=stop)
        with pytest.raises(tab.StoppedError, match="before its first call"):
            tab.resume("begun.csv", predictor=answer, stop=stop)
        with pytest.raises(tab.StoppedError, match="before its first call"):
            tab.compare("q.csv", predictor=answer, stop=stop)
    assert not called and sorted(place.iterdir()) == files


def waited_for(what: Callable[[], bool], seconds: float = 30.0, pause: float = 0.01) -> None:
    until = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < until, "it has not come about"
        time.sleep(pause)


SCRIPT = """
import signal
import tokio_asyncio_bridge as tab
# A shell starts processes in the background with the signal ignored.
signal.signal(signal.SIGINT, signal.default_int_handler)
try:
    tab.process("q.csv", "out.csv", predictor="app.py:answer", concurrency=2, grace={grace}{more})
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
    child = Child(SCRIPT.format(grace="5.0", more=""), SLEEP="0.2")
    waited_for(lambda: Path("calls.txt").exists() and len(calls()) > 4)
    child.interrupt()
    code, out, err = child.end()
    assert code == -signal.SIGINT, err
    ok = int(out.split()[1])
    assert 2 <= ok < 100
    assert len([answer for answer in answers("out.csv") if answer]) == ok == len(calls())


def test_a_second_ctrl_c_ends_a_run_at_once(place: Path) -> None:
    rows("q.csv", [f"q{number}" for number in range(100)])
    child = Child(SCRIPT.format(grace="60.0", more=""), SLEEP="30")
    waited_for(lambda: Path("calls.txt").exists() and len(calls()) == 2)
    child.interrupt()
    assert child.process.stderr is not None and child.process.stderr.readline().startswith("stopping: waiting")
    began = time.monotonic()
    child.interrupt()
    code, out, err = child.end()
    assert (code, out) == (-signal.SIGINT, "interrupted None\n"), err
    assert time.monotonic() - began < 5.0


def test_ctrl_c_before_the_first_call_calls_nothing(place: Path) -> None:
    slow = "import pathlib, time\npathlib.Path('loading').touch()\ntime.sleep(1)\n"
    Path("app.py").write_text(slow + PREDICTOR)
    child = Child(SCRIPT.format(grace="5.0", more=""))
    waited_for(lambda: Path("loading").exists())
    child.interrupt()
    code, out, err = child.end()
    assert (code, out) == (-signal.SIGINT, "interrupted None\n"), err
    assert "waiting for what was being loaded" in err
    assert not Path("calls.txt").exists() and not Path("out.csv.journal").exists()


def test_a_second_ctrl_c_leaves_a_predictor_that_is_being_loaded(place: Path) -> None:
    Path("app.py").write_text("import pathlib, time\npathlib.Path('loading').touch()\ntime.sleep(120)\n" + PREDICTOR)
    child = Child(SCRIPT.format(grace="60.0", more=""))
    waited_for(lambda: Path("loading").exists())
    child.interrupt()
    assert child.process.stderr is not None and child.process.stderr.readline().startswith("stopping: waiting")
    child.interrupt()
    code, out, err = child.end()
    assert (code, out) == (-signal.SIGINT, "interrupted None\n"), err
    assert not Path("calls.txt").exists() and not Path("out.csv.journal").exists()


def has_unnamed(process: int) -> bool:
    """Whether a process has a file in this directory that has no name yet, as answers while they are written."""
    for file in Path(f"/proc/{process}/fd").iterdir():
        with contextlib.suppress(OSError):  # it may have been closed meanwhile
            if os.readlink(file).startswith(str(Path.cwd() / "#")):
                return True
    return False


def test_ctrl_c_while_the_answers_are_written_lets_them_be_written(place: Path) -> None:
    rows("q.csv", [f"q{number}" for number in range(400_003)])
    Path("app.py").write_text(HELD)
    child = Child(SCRIPT.format(grace="5.0", more=', range="400000:"'))
    waited_for(lambda: Path("calls.txt").exists() and len(calls()) == 2, 60.0)
    Path("go").touch()
    waited_for(lambda: has_unnamed(child.process.pid), pause=0.0)
    child.interrupt()
    code, out, err = child.end()
    assert (code, out) == (-signal.SIGINT, "interrupted 3\n"), err
    assert answers("out.csv") == ["Q400000", "Q400001", "Q400002"]


HELD = PREDICTOR.replace(
    "    await asyncio.sleep",
    """    while not pathlib.Path("go").exists():
        await asyncio.sleep(0.01)
    await asyncio.sleep""",
)


def command(*words: str) -> subprocess.CompletedProcess[str]:
    """Runs the command line."""
    program = [sys.executable, "-m", "tokio_asyncio_bridge"]
    return subprocess.run([*program, *words], capture_output=True, text=True, timeout=60)


def test_what_was_begun_here_is_resumed_at_the_shell_and_nothing_is_asked_twice(place: Path) -> None:
    rows("q.csv", [f"q{number}" for number in range(60)])
    child = Child(SCRIPT.format(grace="5.0", more=""), SLEEP="0.05")
    waited_for(lambda: Path("calls.txt").exists() and len(calls()) > 10)
    child.process.kill()
    child.end()
    in_flight = 2
    done = command("resume", "out.csv")
    assert done.returncode == 0, done.stderr
    assert answers("out.csv") == [f"Q{number}" for number in range(60)]
    assert len(set(calls())) == 60 and len(calls()) <= 60 + in_flight


def test_what_was_begun_at_the_shell_is_resumed_here(place: Path) -> None:
    rows("q.csv", ["a", "bad", "c"])
    done = command(
        "process", "q.csv", "-o", "out.csv", "--predictor", "app.py:answer", "--retries", "0", "--rpm", "999"
    )
    assert done.returncode == 3, done.stderr
    Path("app.py").write_text(PREDICTOR.replace('"bad"', '"worse"'))
    report = tab.resume("out.csv", allow_changed=True)
    assert (report.rows.ok, report.sessions, sorted(calls())) == (3, 2, ["a", "bad", "bad", "c"])


def test_a_run_is_resumed_from_another_directory(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows("q.csv", ["a", "bad"])
    tab.process("q.csv", "out.csv", predictor="app.py:answer", retries=0)
    Path("elsewhere").mkdir()
    monkeypatch.chdir("elsewhere")
    report = tab.resume("../out.csv", retries=0)
    assert report.rows.failed == 1
    assert Path.cwd().name == "elsewhere"


def test_an_object_answers_and_the_shell_asks_for_a_predictor(place: Path) -> None:
    seen: list[str] = []

    async def answer(question: str) -> str:
        seen.append(question)
        if question == "b":
            raise ValueError("not yet")
        return question * 2

    report = tab.process("q.csv", "out.csv", predictor=answer, retries=0)
    assert (report.rows.ok, sorted(seen), answers("out.csv")) == (2, ["a", "b", "c"], ["aa", "", "cc"])
    assert report.run.predictor.endswith("answer")
    done = command("resume", "out.csv")
    assert done.returncode == 2 and "--predictor" in done.stderr

    async def later(question: str) -> str:
        return question * 3

    report = tab.resume("out.csv", predictor=later, allow_changed=True)
    assert (report.rows.ok, answers("out.csv")) == (3, ["aa", "bbb", "cc"])


def test_several_jobs_run_at_once_from_several_threads(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLEEP", "0.2")
    reports: dict[int, tab.Report] = {}

    def work(number: int) -> None:
        rows(f"q{number}.csv", [f"q{number}_{row}" for row in range(number + 1)])
        reports[number] = tab.process(f"q{number}.csv", predictor="app.py:answer")

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert {number: report.rows.ok for number, report in reports.items()} == {0: 1, 1: 2, 2: 3, 3: 4}
    assert answers("q3.answers.csv") == [f"Q3_{row}" for row in range(4)]


def test_answers_that_nobody_wants_leave_no_file(place: Path) -> None:
    report = tab.process("q.csv", "/dev/null", predictor="app.py:answer")
    assert (report.rows.ok, report.answers) == (3, Path("/dev/null"))
    assert sorted({*os.listdir()} - {"__pycache__"}) == ["app.py", "calls.txt", "q.csv"]


def test_an_estimate_calls_nothing_and_writes_nothing(place: Path) -> None:
    estimate = tab.estimate("q.csv", predictor="app.py:answer", price_in=1.0, price_out=2.0)
    assert (estimate.rows, estimate.calls) == (3, 3)
    assert estimate.input_tokens > 0 and estimate.input_usd is not None
    assert "<table" in estimate._repr_html_() and repr(estimate).startswith("3 rows, 3 calls\n")
    assert not Path("calls.txt").exists() and not list(Path.cwd().glob("*.journal"))


def test_a_comparison_times_each_mode_and_is_written_down(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLEEP", "0.05")
    rows("q.csv", [f"q{number}" for number in range(8)])
    comparison = tab.compare("q.csv", predictor="app.py:answer", runs=1, concurrency=[2, 8], export_json="c.json")
    assert [mode.name for mode in comparison.modes] == ["sequential", "concurrent -c 2", "concurrent -c 8"]
    assert comparison.speedup is not None and comparison.speedup.mean > 2.0
    assert comparison.modes[0].runs[0].attempts == 8
    assert json.loads(Path("c.json").read_text()) == comparison.to_dict()
    assert "sequential" in repr(comparison) and "sequential" in comparison.to_markdown()
    assert "<pre" in comparison._repr_html_()


def test_an_answers_file_is_verified_and_exported(place: Path) -> None:
    tab.process("q.csv", "out.csv", predictor="app.py:answer")
    audit = tab.verify("q.csv", "out.csv")
    assert audit.ok and audit.rows == 3 and audit.journal and audit.journal_faults == []
    Path("out.csv").write_text(Path("out.csv").read_text().replace("A", "X", 1))
    audit = tab.verify("q.csv", "out.csv")
    assert (audit.ok, audit.faults, audit.altered.count) == (False, 1, 1)
    assert "altered" in repr(audit) and "altered" in audit._repr_html_()
    exported = tab.export("out.csv", "other.csv", fields=["answer"])
    assert (exported.ok, exported.failed, exported.answers) == (3, 0, Path("other.csv"))
    assert answers("other.csv") == ["A", "B", "C"]


def test_a_report_is_what_its_file_holds(place: Path) -> None:
    report = tab.process("q.csv", predictor="app.py:answer")
    assert report.to_dict() == json.loads(Path("q.answers.csv.report.json").read_text())
    assert repr(report).startswith("Answered 3 of 3 rows in ")
    html = report._repr_html_()
    assert html.startswith("<div><strong>Answered 3 of 3 rows") and "q.answers.csv" in html and len(html) < 5_000


def test_a_second_stop_ends_a_run_at_once_and_no_call_goes_on(
    place: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("SLEEP", "30")
    stop, raised = tab.Stop(), list[BaseException]()

    def work() -> None:
        try:
            tab.process("q.csv", "out.csv", predictor="app.py:answer", stop=stop)
        except tab.StoppedError as error:
            raised.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    waited_for(lambda: Path("calls.txt").exists() and len(calls()) == 3)
    stop.stop()
    waited_for(lambda: any("waiting up to 20 s for 3 calls" in text for text in caplog.messages))
    stop.stop()
    thread.join(10)
    [error] = raised
    assert "safe in the journal" in str(error)
    monkeypatch.setenv("SLEEP", "0")
    assert tab.resume("out.csv").rows.ok == 3
