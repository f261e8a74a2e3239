"""Shards of an input, and how they are merged."""

import csv
from pathlib import Path

import pytest
import tokio_asyncio_bridge as tab

CALLS: list[str] = []


async def shout(question: str) -> str:
    CALLS.append(question)
    if question == "b":
        raise ValueError("no answer to this")
    return question.upper()


async def whisper(question: str) -> str:
    return question


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    rows("abcdefg")
    CALLS.clear()
    return tmp_path


def rows(questions: str) -> None:
    Path("q.csv").write_text("question\n" + "".join(f"{question}\n" for question in questions))


def column(file: str, name: str) -> list[str]:
    with open(file, newline="") as lines:
        return [row[name] for row in csv.DictReader(lines)]


def test_shards_are_answered_apart_and_merged(caplog: pytest.LogCaptureFixture) -> None:
    for number, shard in enumerate(["0/3", (1, 3)]):
        report = tab.process("q.csv", predictor=shout, retries=0, shard=shard)
        assert (report.run.shard, report.rows.total) == (f"{number}/3", 3 - number)
    assert report.answers == Path("q.answers.1-of-3.csv")
    assert tab.estimate("q.csv", predictor=shout, shard=(2, 3)).rows == 2
    assert tab.verify("q.csv", "q.answers.1-of-3.csv").ok
    with pytest.raises(tab.ChangedError, match="holds shard 1/3, but shard 2/3 was requested"):
        tab.resume("q.answers.1-of-3.csv", predictor=shout, shard="2/3")

    report = tab.merge("q.csv", ["q.answers.0-of-3.csv", Path("q.answers.1-of-3.csv.journal")], "all.csv")
    assert (report.rows.ok, report.rows.failed, report.rows.unfinished) == (4, 1, 2)
    assert report.run.shard is None and report.answers == Path("all.csv")
    assert "none of the files is of shard 2/3" in caplog.text
    assert column("all.csv", "answer") == ["A", "", "", "D", "E", "", "G"]
    assert tab.verify("q.csv", "all.csv").ok

    CALLS.clear()
    report = tab.resume("all.csv", predictor=shout, retries=0)
    assert sorted(CALLS) == ["b", "c", "f"]
    assert (report.rows.ok, report.rows.failed) == (6, 1)


def test_a_task_takes_its_shard_from_the_scheduler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "2")
    report = tab.process("q.csv", predictor=whisper, shard="auto/3")
    assert (report.run.shard, column("q.answers.2-of-3.csv", "answer")) == ("2/3", ["c", "f"])
    monkeypatch.setenv("JOB_COMPLETION_INDEX", "3")
    with pytest.raises(tab.UsageError, match=r"`shard=` cannot be `auto/3`: .* say which is meant"):
        tab.process("q.csv", predictor=whisper, shard="auto/3")


@pytest.mark.parametrize("shard", ["3/3", "1", (3, 3), (1,), (1, 2, 3)])
def test_a_shard_that_does_not_exist_is_refused(shard: tuple[int, int]) -> None:
    with pytest.raises(tab.UsageError, match="`shard=` cannot be "):
        tab.process("q.csv", predictor=whisper, shard=shard)


def test_what_does_not_belong_together_is_not_merged() -> None:
    for number in range(2):
        tab.process("q.csv", predictor=whisper, shard=(number, 2))
    files = ["q.answers.0-of-2.csv", "q.answers.1-of-2.csv"]
    rows("abcdefx")
    with pytest.raises(tab.ChangedError, match=r"1 outcome of `q\.answers\.0-of-2\.csv\.journal` is of no row"):
        tab.merge("q.csv", files, "all.csv")
    assert not Path("all.csv").exists()
    with pytest.raises(tab.UsageError, match="named twice"):
        tab.merge("q.csv", [files[0], files[0]])
    with pytest.raises(tab.UsageError, match="name the answers files"):
        tab.merge("q.csv", [])
    with pytest.raises(tab.JournalError, match="has no journal"):
        tab.merge("q.csv", ["other.csv"])

    rows("abcdefgh")
    assert tab.merge("q.csv", files, "all.csv").rows.unfinished == 1
    with pytest.raises(tab.JournalError, match="holds an earlier run"):
        tab.merge("q.csv", files, "all.csv")
    assert tab.merge("q.csv", files, "all.csv", force=True).rows.ok == 7
