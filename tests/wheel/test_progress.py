"""`progress=`: a bar at a terminal, nothing elsewhere, lines where they are asked for, or the caller's own function."""

import asyncio
import os
import pty
import subprocess
import sys
import termios
import threading
from pathlib import Path
from typing import Any

import pytest
import tokio_asyncio_bridge as tab

PREDICTOR = """
import asyncio

async def answer(question: str) -> str:
    await asyncio.sleep(0.4)
    return question.upper()
"""

SCRIPT = """
import tokio_asyncio_bridge as tab
tab.process("q.csv", predictor="app.py:answer", concurrency=2, force=True, progress={progress})
"""

LOGGING = """
import logging
logging.basicConfig(level=logging.INFO, format="said: %(message)s")
"""


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("app.py").write_text(PREDICTOR)
    Path("q.csv").write_text("question\n" + "".join(f"q{number}\n" for number in range(4)))
    return tmp_path


def at_terminal(script: str) -> str:
    """What a script shows on a terminal of 80 columns as its standard error."""
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (24, 80))
    environment = {**os.environ, "TERM": "xterm"}
    child = subprocess.Popen([sys.executable, "-c", script], stderr=theirs, stdout=subprocess.DEVNULL, env=environment)
    os.close(theirs)
    shown = b""
    try:
        while part := os.read(ours, 4096):
            shown += part
    except OSError:
        pass  # the other end is closed
    os.close(ours)
    assert child.wait(30) == 0, shown.decode()
    return shown.decode()


def in_pipe(progress: object) -> str:
    done = subprocess.run([sys.executable, "-c", SCRIPT.format(progress=progress)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stderr


def test_a_terminal_has_the_bar_of_the_command_line_which_is_gone_at_the_end() -> None:
    shown = at_terminal(SCRIPT.format(progress=None))
    assert "░" in shown and "/4 rows  " in shown and " rows/s" in shown
    # The last drawing is removed.
    assert shown.endswith("\r\x1b[2K"), repr(shown[-200:])


def test_a_message_stands_on_a_line_of_its_own() -> None:
    shown = at_terminal(LOGGING + SCRIPT.format(progress=None))
    assert "said: q.csv: 4 rows" in shown
    for line in shown.split("\n"):
        if "said: " in line:
            before = line.partition("said: ")[0].rpartition("\r")[2]
            assert "rows" not in before.rpartition("\x1b[2K")[2], repr(line)


def test_a_terminal_shows_nothing_where_that_is_asked_for() -> None:
    assert "rows/s" not in at_terminal(SCRIPT.format(progress=False))


def test_no_terminal_shows_nothing_but_what_is_asked_for() -> None:
    assert in_pipe(None) == in_pipe('"auto"') == in_pipe(False) == ""
    [line] = in_pipe(True).splitlines()
    assert line.startswith("4/4 rows, 100 %, ")


def test_a_function_is_told_on_the_calling_thread() -> None:
    seen: list[tuple[int, int]] = []

    def told(progress: tab.Progress) -> None:
        assert threading.current_thread() is threading.main_thread()
        seen.append((progress.done, progress.total))

    tab.process("q.csv", predictor="app.py:answer", progress=told)
    assert seen[-1] == (4, 4)


def test_another_value_is_refused() -> None:
    given: Any = {"progress": "bar"}
    rows = [{"question": "a"}]
    for call in (
        lambda: tab.process("q.csv", predictor="app.py:answer", **given),
        lambda: tab.resume("q.answers.csv", predictor="app.py:answer", **given),
        lambda: tab.compare("q.csv", predictor="app.py:answer", **given),
        lambda: tab.map(rows, "app.py:answer", **given),
        lambda: tab.map(rows, "app.py:answer", journal="run.journal", **given),
        lambda: tab.stream(rows, "app.py:answer", **given),
    ):
        before = threading.active_count()
        with pytest.raises(TypeError, match=r"`progress=` takes True, False, \"auto\" or a function, not 'bar'"):
            call()
        assert threading.active_count() == before
    assert sorted(path.name for path in Path().iterdir()) == ["app.py", "q.csv"], "nothing was begun"


def test_a_stream_tells_of_its_progress_if_it_is_asked_to() -> None:
    seen: list[tuple[int, int]] = []

    async def answer(question: str) -> str:
        await asyncio.sleep(0.3)
        return question

    async def main() -> None:
        rows = [{"question": "a"}, {"question": "b"}]
        told = [
            outcome
            async for outcome in tab.stream(rows, answer, progress=lambda now: seen.append((now.done, now.total)))
        ]
        assert len(told) == 2
        with pytest.raises(LookupError, match="no bar"):
            async for _ in tab.stream(rows, answer, progress=broken):
                pass
        assert asyncio.all_tasks() == {asyncio.current_task()}

    def broken(now: tab.Progress) -> None:
        raise LookupError("no bar")

    asyncio.run(main())
    assert seen[0] == (0, 2) and seen[-1] == (2, 2)


def test_map_and_evaluate_show_what_process_shows() -> None:
    seen: list[tab.Progress] = []
    answers = tab.map(iter([{"question": "a"}]), lambda question: question, progress=seen.append)
    assert len(answers) == 1
    assert (seen[-1].done, seen[-1].total) == (1, 0)
