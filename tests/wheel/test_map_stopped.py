"""`map` that is stopped: which rows are read, which have an outcome, and that nothing is called any more."""

import asyncio
import itertools
import threading
import time
from collections.abc import Iterator
from typing import Any

import pandas
import pytest
import tokio_asyncio_bridge as tab


def rows(count: int) -> list[dict[str, str]]:
    return [{"question": f"q{index}"} for index in range(count)]


class Sized:
    """Rows whose number is known, and that come slowly or end in an error."""

    def __init__(self, error: Exception | None) -> None:
        self.error = error
        self.read = 0

    def __len__(self) -> int:
        return 2_000

    def __iter__(self) -> Iterator[dict[str, str]]:
        for row in rows(2_000):
            if self.error is not None and self.read == 1_000:
                raise self.error
            self.read += 1
            time.sleep(0.001)
            yield row


@pytest.mark.parametrize("error", [None, OSError("gone")])
def test_a_run_that_was_stopped_reads_no_further_rows(error: Exception | None) -> None:
    stop, given = tab.Stop(), Sized(error)

    async def predict(question: str) -> str:
        if question == "q20":
            stop.stop()
        return question

    answers = tab.map(given, predict, concurrency=1, stop=stop)
    assert answers.stopped is not None and 20 <= len(answers.ok) <= len(answers) == given.read < 1_000
    assert [outcome.index for outcome in answers] == list(range(len(answers)))


@pytest.mark.parametrize("kind", [list, tuple, "range", "pandas", "series"])
def test_rows_that_are_at_hand_have_an_outcome_each(kind: Any) -> None:
    count = 100_000
    given: Any = range(count)
    if kind in ("pandas", "series"):
        given = pandas.DataFrame({"number": given})
        given = given["number"] if kind == "series" else given
    elif kind != "range":
        given = kind(given)

    async def predict(number: int) -> int:
        if number == 5:
            raise ValueError("no")
        return number

    answers = tab.map(given, predict, concurrency=1, retries=0, max_failures=1)
    assert len(answers) == count and answers[4].answer == 4
    assert [outcome.index for outcome in answers] == list(range(count))
    last = answers[-1]
    assert last.error is not None and (last.error.kind, last.error.type) == ("unfinished", "unfinished")
    # Of these, only the first was handed in.
    assert not any(outcome.error is None or outcome.error.called for outcome in (answers[7_000], last))
    assert last.row == ({"number": count - 1} if kind == "pandas" else count - 1) and last.attempts == 0
    if kind == "pandas":
        assert len(answers.table()) == count


def test_what_is_raised_while_the_rest_is_listed_has_the_outcomes(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(index: int, row: object) -> tab.Outcome:
        raise KeyboardInterrupt

    monkeypatch.setattr("tokio_asyncio_bridge._map._unasked", interrupted)

    async def predict(number: int) -> int:
        if number == 5:
            raise ValueError("no")
        return number

    with pytest.raises(KeyboardInterrupt) as raised:
        tab.map(range(100_000), predict, concurrency=1, retries=0, max_failures=1)
    assert [outcome.answer for outcome in raised.value.outcomes][:5] == [0, 1, 2, 3, 4]  # type: ignore[attr-defined]


def test_endless_rows_are_read_ahead_to_a_bound() -> None:
    stop, read = tab.Stop(), itertools.count()

    async def slow(number: int) -> int:
        await asyncio.sleep(0.01)
        return number

    threading.Timer(2, stop.stop).start()
    answers = tab.map(read, slow, concurrency=1, stop=stop)
    assert 0 < len(answers.ok) < 1_000 and len(answers) == next(read) <= 65_536 + 8_192 + 1_000


@pytest.mark.parametrize("requests", [1, 2])
@pytest.mark.parametrize("journal", [False, True])
def test_a_stop_that_was_used_before_lets_nothing_be_called(requests: int, journal: bool, tmp_path: Any) -> None:
    stop, called = tab.Stop(), list[str]()
    for _ in range(requests):
        stop.stop()

    async def predict(question: str) -> str:
        called.append(question)
        return question

    kept: dict[str, Any] = {"journal": tmp_path / "run.journal"} if journal else {}
    for _ in range(3):
        with pytest.raises(tab.StoppedError, match="before its first call"):
            tab.map(rows(100), predict, stop=stop, **kept)
    assert not called and not list(tmp_path.iterdir())


def test_a_stop_while_the_rows_of_a_journal_are_read_lets_nothing_be_called(tmp_path: Any) -> None:
    stop, called = tab.Stop(), list[str]()

    async def predict(question: str) -> str:
        called.append(question)
        return question

    def generator() -> Iterator[dict[str, str]]:
        yield from rows(10)
        stop.stop()

    with pytest.raises(tab.StoppedError):
        tab.map(generator(), predict, stop=stop, journal=tmp_path / "run.journal")
    assert not called and not list(tmp_path.iterdir())


def test_a_run_that_is_stopped_while_its_predictor_loads_is_waited_for_at_rest(tmp_path: Any) -> None:
    file = tmp_path / "slow_app.py"
    file.write_text("import time\ntime.sleep(4)\nasync def answer(question): return question\n")
    stop = tab.Stop()
    threading.Timer(0.5, stop.stop).start()
    before = time.monotonic(), time.thread_time()
    with pytest.raises(tab.StoppedError, match="before its first call"):
        tab.map(rows(1), f"{file}:answer", stop=stop)
    assert time.monotonic() - before[0] > 2
    assert time.thread_time() - before[1] < 0.5


@pytest.mark.parametrize("runs", [0, 1, 2])
def test_an_unfinished_row_has_the_calls_that_the_last_run_made_for_it(runs: int, tmp_path: Any) -> None:
    async def predict(question: str, attempt: int) -> str:
        if question == "q0" and attempt == 1:
            error = ConnectionError("gone")
            error._bridge_usage = (10, 5, 1, 0.25, None, None)  # type: ignore[attr-defined]
            raise error
        if question == "q0":
            stop.stop()
        await asyncio.sleep(60)
        return question

    kept: dict[str, Any] = {"journal": tmp_path / "run.journal"} if runs else {}
    for _ in range(runs or 1):
        stop = tab.Stop()
        answers = tab.map(rows(2), predict, concurrency=10, backoff="1ms", grace="300ms", stop=stop, **kept)
        assert answers.counts == {"unfinished": 2} and [outcome.attempts for outcome in answers] == [2, 1]
        assert all(outcome.error is not None and outcome.error.called for outcome in answers)
        assert answers[1].latency > 0.2 and (answers.usage, answers.cost) == ((10, 5, 1), 0.25)
