"""`map` with a journal: durable, continued, and readable at the shell."""

import datetime
import json
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pandas
import pytest
from tokio_asyncio_bridge import ChangedError, InputError, OutputError, UsageError, map, resume

ASKED: list[str] = []


async def shout(question: str) -> Any:
    """Answers, and notes what it was asked."""
    ASKED.append(question)
    if question == "fail":
        raise ValueError("no such thing")
    return question.upper()


@pytest.fixture(autouse=True)
def nothing_asked() -> None:
    ASKED.clear()


def rows(*questions: str) -> list[dict[str, str]]:
    return [{"question": question} for question in questions]


def test_outcomes_are_read_back_in_order_and_nothing_is_asked_twice(tmp_path: Path) -> None:
    journal = tmp_path / "run.journal"
    given = rows("a", "fail", "c")
    answers = map(given, shout, journal=journal)
    assert [outcome.answer for outcome in answers] == ["A", None, "C"]
    assert [outcome.row for outcome in answers] == given
    assert answers[0].row is given[0]
    failed = answers[1].error
    assert failed is not None
    assert (failed.kind, failed.type, failed.message) == ("predictor", "ValueError", "no such thing")
    assert failed.traceback is not None
    assert "raise ValueError" in failed.traceback
    assert answers[0].attempts == 1
    assert answers[0].latency > 0
    assert answers.report is not None
    assert (answers.report.rows.ok, answers.report.rows.failed) == (2, 1)
    again = map(given, shout, journal=str(journal), skip_failed=True)
    assert [outcome.answer for outcome in again] == ["A", None, "C"]
    assert sorted(ASKED) == ["a", "c", "fail"]
    map(given, shout, journal=journal)
    assert ASKED[3:] == ["fail"], "failed rows are asked again"


def test_appended_rows_continue_the_run(tmp_path: Path) -> None:
    map(rows("a", "b"), shout, journal=tmp_path / "run.journal")
    answers = map(iter(rows("a", "b", "c")), shout, journal=tmp_path / "run.journal")
    assert [outcome.answer for outcome in answers] == ["A", "B", "C"]
    assert sorted(ASKED) == ["a", "b", "c"]


def test_changed_rows_are_refused_and_named(tmp_path: Path) -> None:
    map(rows("a", "b", "c"), shout, journal=tmp_path / "run.journal")
    with pytest.raises(ChangedError) as refused:
        map(rows("a", "x", "y"), shout, journal=tmp_path / "run.journal")
    text = str(refused.value)
    assert "the rows have changed since the earlier run: 2 of 3 recorded rows no longer match (row 1, 2)\n" in text
    assert "`allow_changed=True`" in text
    assert "x" not in ASKED
    answers = map(rows("c", "x"), shout, journal=tmp_path / "run.journal", allow_changed=True)
    assert [outcome.answer for outcome in answers] == ["C", "X"]
    assert sorted(ASKED) == ["a", "b", "c", "x"]
    assert [path.name for path in tmp_path.iterdir() if path.name.endswith(".input")] == []


@pytest.mark.parametrize(
    ("value", "why"),
    [
        (datetime.date(2020, 1, 1), "`at`, of type date"),
        (float("nan"), "`at`, of type float"),
        ({"a": {1: "b"}}, "the key 1 is no text"),
        (object(), "`at`, of type object"),
    ],
)
def test_a_value_that_json_cannot_hold_is_named_before_the_first_call(tmp_path: Path, value: Any, why: str) -> None:
    with pytest.raises(InputError, match="row 1: the value of `at`") as refused:
        map([{"question": "a"}, {"question": "b", "at": value}], shout, journal=tmp_path / "run.journal")
    assert why in str(refused.value)
    assert ASKED == []
    assert list(tmp_path.iterdir()) == []


def test_what_fails_while_rows_are_read_leaves_nothing_behind(tmp_path: Path) -> None:
    def broken() -> Any:
        yield {"question": "a"}
        raise KeyError("gone")

    with pytest.raises(KeyError, match="gone"):
        map(broken(), shout, journal=tmp_path / "run.journal")
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(OutputError, match="failed to write into"):
        map(rows("a"), shout, journal=tmp_path / "none" / "run.journal")


def test_answers_come_back_as_the_journal_has_them(tmp_path: Path) -> None:
    replies: dict[str, Any] = {
        "text": "a \ud800 b",
        "number": 2**70,
        "list": [1, None, "x"],
        "fields": {"capital": "Paris", "sure": True},
        "date": datetime.date(2020, 1, 1),
    }

    async def reply(question: str) -> Any:
        return replies[question]

    answers = map(rows(*replies), reply, journal=tmp_path / "run.journal")
    expected = ["a \\ud800 b", 2**70, [1, None, "x"], {"capital": "Paris", "sure": True}, "2020-01-01"]
    assert [outcome.answer for outcome in answers] == expected


def test_rows_are_kept_for_the_owner_alone_until_all_are_answered(tmp_path: Path) -> None:
    map(rows("a", "fail"), shout, journal=tmp_path / "run.journal")
    kept = tmp_path / "run.input"
    assert kept.stat().st_mode & 0o777 == 0o600
    assert kept.read_text() == '{"question": "a"}\n{"question": "fail"}\n'
    map(rows("a", "fail"), lambda question: question, journal=tmp_path / "run.journal", allow_changed=True)
    assert not kept.exists()


def test_what_is_wrong_is_told_of_the_rows_and_not_of_a_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"^row 0 has no column `question`, only `q`"):
        map([{"q": "a"}], shout, journal=tmp_path / "run.journal")
    (tmp_path / "mine").write_text("my own")
    with pytest.raises(OutputError) as refused:
        map(rows("a"), shout, journal=tmp_path / "mine.journal")
    assert refused.value.hint is not None
    assert "`journal=`" in refused.value.hint
    assert ASKED == []
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


def test_without_rows_nothing_is_written(tmp_path: Path) -> None:
    answers = map([], shout, journal=tmp_path / "run.journal")
    assert (len(answers), answers.report, list(tmp_path.iterdir())) == (0, None, [])


def test_a_table_with_a_journal_comes_back_as_one(tmp_path: Path) -> None:
    frame = pandas.DataFrame({"question": ["a", "b"], "n": [1, 2]}, index=["x", "y"])
    answered = map(frame, shout, journal=tmp_path / "run.jsonl").table()
    assert list(answered["answer"]) == ["A", "B"]
    assert list(answered.index) == ["x", "y"]
    written = [json.loads(line) for line in (tmp_path / "run.jsonl").read_text().splitlines()]
    assert written[0].items() >= {"question": "a", "n": 1, "answer": "A", "status": "ok"}.items()
    assert (tmp_path / "run.jsonl.journal").exists()


def test_the_shell_continues_what_map_began(tmp_path: Path) -> None:
    predictor = tmp_path / "app.py"
    predictor.write_text(
        "import pathlib\n"
        "async def answer(question):\n"
        "    if question == 'b' and not pathlib.Path('mended').exists(): raise ValueError('no')\n"
        "    pathlib.Path('asked').open('a').write(question)\n"
        "    return question.upper()\n"
    )
    script = (
        "import tokio_asyncio_bridge as tab\n"
        "rows = [{'question': question} for question in 'abc']\n"
        "answers = tab.map(rows, {predictor}, journal='run.jsonl', skip_failed=True)\n"
        "print([outcome.answer for outcome in answers])\n"
    )

    def python(predictor: str) -> str:
        command = [sys.executable, "-c", script.replace("{predictor}", predictor)]
        return subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, text=True).stdout

    def shell(*words: str) -> "subprocess.CompletedProcess[str]":
        command = [sys.executable, "-m", "tokio_asyncio_bridge", *words]
        return subprocess.run(command, cwd=tmp_path, check=False, capture_output=True, text=True)

    assert python("'app.py:answer'") == "['A', None, 'C']\n"
    (tmp_path / "mended").touch()
    resumed = shell("resume", "run.jsonl.journal")
    assert resumed.returncode == 0, resumed.stderr
    assert python("'app.py:answer'") == "['A', 'B', 'C']\n"
    assert sorted((tmp_path / "asked").read_text()) == ["a", "b", "c"]


def test_killed_in_the_middle_it_goes_on_where_it_was(tmp_path: Path) -> None:
    script = (
        "import asyncio, pathlib\n"
        "import tokio_asyncio_bridge as tab\n"
        "async def answer(n):\n"
        "    await asyncio.sleep(0.02)\n"
        "    pathlib.Path('asked').open('a').write(f'{n}\\n')\n"
        "    return n\n"
        "answers = tab.map(({'n': n} for n in range(100)), answer, journal='run.journal', concurrency=4)\n"
        "assert [outcome.answer for outcome in answers] == list(range(100)), answers\n"
    )
    command = [sys.executable, "-c", script]
    killed = subprocess.Popen(command, cwd=tmp_path)
    asked = tmp_path / "asked"
    while not asked.exists() or len(asked.read_text().splitlines()) < 40:
        time.sleep(0.01)
    killed.kill()
    killed.wait()
    subprocess.run(command, cwd=tmp_path, check=True)
    numbers = [int(line) for line in asked.read_text().splitlines()]
    assert set(numbers) == set(range(100))
    assert len(numbers) <= 104, "only calls in flight may be made twice"


def test_an_interrupt_keeps_what_was_answered(tmp_path: Path) -> None:
    async def slow(question: str) -> str:
        ASKED.append(question)
        if question == "c":
            threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT)).start()
            import asyncio

            await asyncio.sleep(30)
        return question.upper()

    with pytest.raises(KeyboardInterrupt) as interrupted:
        map(rows("a", "b", "c", "d"), slow, journal=tmp_path / "run.journal", concurrency=1, grace=0.1)
    assert [outcome.answer for outcome in interrupted.value.outcomes] == ["A", "B"]  # type: ignore[attr-defined]


def test_an_interrupt_before_the_rows_are_compared_has_no_outcome_of_other_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    predictor = tmp_path / "app.py"
    predictor.write_text(
        "import os, signal, time\n"
        "if 'INTERRUPTED' in os.environ:\n"
        "    os.kill(os.getpid(), signal.SIGINT)\n"
        "    time.sleep(0.5)\n"
        "async def answer(question): return question.upper()\n"
    )
    map(rows("a", "b"), f"{predictor}:answer", journal=tmp_path / "run.journal")
    monkeypatch.setenv("INTERRUPTED", "1")
    with pytest.raises(KeyboardInterrupt) as interrupted:
        map(rows("x", "y"), f"{predictor}:answer", journal=tmp_path / "run.journal")
    assert not hasattr(interrupted.value, "outcomes")


def test_what_the_run_says_is_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "tokio_asyncio_bridge")
    map(rows("a"), shout, journal=tmp_path / "run.journal")
    map(rows("a", "b"), shout, journal=tmp_path / "run.journal")
    assert "continuing: 1 row answered before, 1 to go" in caplog.text


def test_both_ways_to_answer_agree_on_tables(tmp_path: Path) -> None:
    questions = rows("a", "fail")
    kept, free = map(questions, shout, journal=tmp_path / "run.journal"), map(questions, shout)
    assert kept.table()[0].keys() == free.table()[0].keys()
    without = [{key: value for key, value in row.items() if key != "latency_ms"} for row in kept.table()]
    assert without == [{key: value for key, value in row.items() if key != "latency_ms"} for row in free.table()]


def test_resume_takes_the_callable_again(tmp_path: Path) -> None:
    map(rows("a", "fail"), shout, journal=tmp_path / "run.jsonl")
    report = resume(tmp_path / "run.jsonl", predictor=shout)
    assert (report.rows.ok, report.rows.failed) == (1, 1)


def test_options_about_files_need_a_journal() -> None:
    with pytest.raises(UsageError, match="`skip_failed=` is about the files of a job"):
        map(rows("a"), shout, skip_failed=True)
