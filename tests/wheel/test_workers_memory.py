"""Calls in worker processes whose rows and answers are in memory: `map` without a journal, `stream` and `evaluate`."""

import asyncio
import contextlib
import json
import math
import os
import signal
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from datetime import date
from pathlib import Path
from typing import Any

import pytest
import tokio_asyncio_bridge as tab


def children() -> set[int]:
    """The processes that this one has started and that are alive."""
    processes = (Path("/proc") / name / "stat" for name in os.listdir("/proc") if name.isdigit())
    found = set()
    for process in processes:
        with contextlib.suppress(OSError):
            state, parent = process.read_text().rpartition(")")[2].split()[:2]
            if int(parent) == os.getpid() and state != "Z":
                found.add(int(process.parent.name))
    return found


@pytest.fixture(autouse=True)
def none_is_left(place: Path) -> Iterator[None]:
    before = children()
    yield
    assert children() <= before


async def seen(question: Any, n: int = 0) -> dict[str, Any]:
    return {"question": question, "n": n, "pid": os.getpid()}


def test_rows_and_answers_cross_as_values_and_outcomes_have_the_rows_themselves() -> None:
    rows: list[Any] = [
        {"question": "é", "n": 1, "other": object()},
        {"question": {"deep": [1, 2.5, None, True, "x"]}},
        {"question": 10**30, "n": -1},
        {"question": "half a pair: \ud800"},
        {"question": None},
    ]
    answers = tab.map(rows, seen, workers=2, retries=0)
    assert [outcome.error for outcome in answers] == [None] * 5
    assert all(outcome.row is row for outcome, row in zip(answers, rows, strict=True))
    assert [outcome.answer["question"] for outcome in answers[:3]] == [row["question"] for row in rows[:3]]
    # An answer is text that UTF-8 can hold, as everywhere.
    assert answers[3].answer["question"] == "half a pair: \\ud800"
    assert [outcome.answer["n"] for outcome in answers] == [1, 0, -1, 0, 0]
    assert os.getpid() not in {outcome.answer["pid"] for outcome in answers}
    assert answers[0].attempts == 1 and answers[0].latency > 0


def test_what_json_cannot_hold_fails_with_the_reason_and_costs_no_other_row() -> None:
    rows: list[Any] = [
        {"question": date(2026, 1, 1)},
        {"question": [math.nan]},
        {"question": {1: "one"}},
        {"question": "fine"},
        {"n": 1},
    ]
    answers = tab.map(rows, seen, workers=1, max_failures="100%")
    told = [outcome.error and (outcome.error.kind, outcome.error.message, outcome.attempts) for outcome in answers]
    cannot = "cannot be sent to another process"
    # The words of `json` are not the same in every Python.
    with pytest.raises(ValueError) as not_finite:
        json.dumps([math.nan], allow_nan=False)
    assert told == [
        ("input", f"the value of `question`, of type date, {cannot}: Object of type date is not JSON serializable", 0),
        ("input", f"the value of `question`, of type list, {cannot}: {not_finite.value}", 0),
        ("input", f"the value of `question`, of type dict, {cannot}: the key 1 is no text", 0),
        None,
        ("input", "the row lacks the key `question` for the parameter `question`; it has `n`", 0),
    ]


def test_an_answer_that_json_cannot_hold_fails_and_numbers_that_are_not_finite_are_told(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def odd(question: str) -> Any:
        return {"object": object(), "nan": [math.nan, 1.5], "text": "t", "field": {"answer": "alone"}}[question]

    rows = [{"question": name} for name in ("object", "nan", "text", "field")]
    answers = tab.map(rows, odd, workers=1, max_failures="100%")
    assert [outcome.answer for outcome in answers] == [None, [None, 1.5], "t", "alone"]
    error = answers[0].error
    assert error is not None
    assert (error.kind, error.message[:59]) == ("output", "the predictor returned a value of type object, which cannot")
    assert "1 number in the answers is not finite" in caplog.text


def test_values_that_are_the_one_argument_columns_and_maps_are_taken_as_in_this_process() -> None:
    async def kept(question: Any, **rest: Any) -> Any:
        return [question, rest]

    for workers in (0, 2):
        assert [o.answer for o in tab.map(["a", 2], kept, workers=workers)] == [["a", {}], [2, {}]]
        [given] = tab.map([{"q": 1, "m": 2, "x": 3}], kept, workers=workers, column="q", map={"z": "m"})
        assert given.answer == [1, {"z": 2, "x": 3}]


def test_errors_retries_and_usage_are_those_of_a_run_in_this_process() -> None:
    async def fails(question: str, attempt: int) -> str:
        if question == "b" or attempt == 1:
            raise ConnectionError(f"no {question}")
        return question

    told = []
    for workers in (0, 2):
        answers = tab.map([{"question": q} for q in "abc"], fails, workers=workers, retries=1, backoff=0.01)
        assert answers.counts == {"ok": 2, "failed": 1}
        error = answers[1].error
        assert error is not None and error.traceback is not None
        told.append((error.kind, error.type, error.message, error.traceback.splitlines()[0].rpartition(":")[2]))
        assert [outcome.attempts for outcome in answers] == [2, 2, 2]
        assert isinstance(error.__cause__, ConnectionError) == (workers == 0)
    assert told[0] == told[1]


def test_a_crash_costs_its_row_alone() -> None:
    async def falls(question: int) -> int:
        if question == 5:
            os._exit(3)
        await asyncio.sleep(0.01)
        return question

    answers = tab.map([{"question": n} for n in range(40)], falls, workers=2, concurrency=8, retries=0)
    assert [outcome.index for outcome in answers.failed] == [5]
    error = answers[5].error
    assert error is not None and error.kind == "crash"
    assert "it exited (code 3), then exited (code 3)" in error.message


def test_a_stop_and_an_interrupt_end_a_map_with_the_outcomes_so_far() -> None:
    async def slow(question: int) -> int:
        await asyncio.sleep(0 if question < 4 else 30)
        return question

    rows, stop = [{"question": n} for n in range(8)], tab.Stop()

    def when_four_are_done(end: Any) -> Any:
        return lambda progress: end() if progress.ok == 4 else None

    answers = tab.map(rows, slow, workers=2, stop=stop, grace=0.1, progress=when_four_are_done(stop.stop))
    assert answers.counts == {"ok": 4, "unfinished": 4}
    with pytest.raises(KeyboardInterrupt) as raised:
        interrupt = when_four_are_done(lambda: signal.raise_signal(signal.SIGINT))
        tab.map(rows, slow, workers=2, grace=0.1, progress=interrupt)
    assert sorted(outcome.answer for outcome in raised.value.outcomes if outcome.ok) == [0, 1, 2, 3]  # type: ignore[attr-defined]


def running(test: Callable[[], Coroutine[Any, Any, None]]) -> Callable[[], None]:
    """Runs a test in a loop."""

    def run() -> None:
        asyncio.run(test())

    return run


@running
async def test_a_stream_is_that_of_a_run_in_this_process() -> None:
    rows = [{"question": f"q{n}"} for n in range(3_000)]
    for ordered in (True, False):
        outcomes = [outcome async for outcome in tab.stream(rows, seen, workers=2, concurrency=50, ordered=ordered)]
        if ordered:
            assert [outcome.index for outcome in outcomes] == list(range(3_000))
        assert all(outcome.row is rows[outcome.index] for outcome in outcomes)
        assert {outcome.answer["question"] for outcome in outcomes} == {row["question"] for row in rows}
        assert len({outcome.answer["pid"] for outcome in outcomes} - {os.getpid()}) == 2


@running
async def test_a_stream_that_is_not_taken_holds_rows_back_and_one_that_is_left_ends_its_workers() -> None:
    read, before = 0, children()

    def rows() -> Iterator[dict[str, int]]:
        nonlocal read
        for read in range(1_000_000):
            yield {"question": read}

    async with contextlib.aclosing(tab.stream(rows(), seen, workers=2, concurrency=4)) as stream:
        async for outcome in stream:
            assert outcome.ok
            break
        await asyncio.sleep(0.5)
        held = read
        await asyncio.sleep(0.5)
        assert read == held <= 8_192 + 1
    assert children() <= before


def test_the_threads_of_plain_functions_are_the_workers() -> None:
    def blocks(question: str) -> str:
        time.sleep(0.2)
        return f"{os.getpid()} {threading.get_ident()}"

    began = time.monotonic()
    answers = tab.map(["x"] * 8, blocks, workers=2, concurrency=8)
    assert len({outcome.answer for outcome in answers}) == 8
    assert time.monotonic() - began < 8


@pytest.mark.parametrize("workers", [-1, "many"])
def test_a_number_of_workers_that_does_not_fit_is_told(workers: Any) -> None:
    with pytest.raises(tab.UsageError, match="expected `auto` or a whole number"):
        tab.map([], seen, workers=workers)


CAPITALS = {"France": "Paris", "Peru": "Lima", "Kenya": "Nairobi", "Japan": "Tokyo"}


def capitals(dspy: Any, asked: Path) -> tuple[Any, list[Any]]:
    """A program that knows all but one capital and notes what it is asked, and examples for it."""

    class Capitals(dspy.Module):  # type: ignore[misc]
        async def aforward(self, country: str) -> Any:
            with asked.open("a") as file:
                file.write(f"{country}\n")
            if country == "Kenya":
                raise ValueError("no idea")
            return dspy.Prediction(capital=CAPITALS[country] if country != "Peru" else "Cusco", proof=asked)

    # What an example holds need not cross.
    examples = [
        dspy.Example(country=country, capital=capital, held=object()).with_inputs("country")
        for country, capital in CAPITALS.items()
    ]
    return Capitals(), examples


@pytest.fixture
def dspy() -> Iterator[Any]:
    """DSPy with a model: without one of the user's, the local one would be started."""
    dspy = pytest.importorskip("dspy")
    from dspy.utils import DummyLM

    with dspy.context(lm=DummyLM([{"capital": "Paris"}] * 9)):
        yield dspy


def test_an_evaluation_scores_where_it_predicts_and_rebuilds_predictions(
    dspy: Any, place: Path, caplog: pytest.LogCaptureFixture
) -> None:
    here = os.getpid()

    def exact(example: Any, prediction: Any, trace: Any = None) -> Any:
        # Here are the very objects.
        assert isinstance(prediction.proof, Path) and type(example.held) is object and os.getpid() != here
        return dspy.Prediction(score=float(example.capital == prediction.capital), by=os.getpid())

    program, examples = capitals(dspy, place / "asked")
    found = tab.evaluate(program, examples, exact, workers=2, failure_score=0.5, retries=0)
    assert found.score == 62.5
    assert [example is given for (example, *_), given in zip(found.results, examples, strict=True)] == [True] * 4
    predictions = [prediction.toDict() for _, prediction, _ in found.results]
    proof = str(place / "asked")
    assert predictions == [
        {"capital": "Paris", "proof": proof},
        {"capital": "Cusco", "proof": proof},
        {},
        predictions[3],
    ]
    assert all(type(prediction) is dspy.Prediction for _, prediction, _ in found.results)
    assert [float(score) for *_, score in found.results] == [1.0, 0.0, 0.5, 1.0]
    assert found.results[0][2].by != here
    assert [outcome.row["capital"] for outcome in found.answers] == list(CAPITALS.values())
    error = found.answers[2].error
    assert error is not None and error.message == "no idea"
    assert not [record for record in caplog.records if "predictions lack" in record.message]


def test_a_metric_that_fails_is_tried_again_in_any_worker_without_asking_the_program_again(
    dspy: Any, place: Path
) -> None:
    def shaky(example: Any, prediction: Any, trace: Any = None) -> bool:
        if example.country == "Peru":
            raise ConnectionError("the judge is away")
        with (place / "judged").open("a") as file:
            file.write(f"{example.country}\n")
        if (place / "judged").read_text().count(example.country) < 3:
            raise ConnectionError("the judge is away")
        return True

    class Plain(dspy.Module):  # type: ignore[misc]
        def forward(self, country: str) -> Any:
            with (place / "asked").open("a") as file:
                file.write(f"{country}\n")
            return dspy.Prediction(capital=CAPITALS[country])

    _, examples = capitals(dspy, place / "asked")
    found = tab.evaluate(Plain(), examples, shaky, workers=2, retries=2, backoff=0.01, max_failures="100%")
    assert sorted((place / "asked").read_text().split()) == sorted(CAPITALS)
    assert [score for *_, score in found.results] == [True, 0.0, True, True]
    # That of the metric which failed for good.
    assert found.results[1][1].toDict() == {"capital": "Lima"}


def test_an_evaluation_with_a_journal_goes_on_with_and_without_workers(
    dspy: Any, place: Path, caplog: pytest.LogCaptureFixture
) -> None:
    _, examples = capitals(dspy, place / "asked")
    examples = [example.without("held").with_inputs("country") for example in examples]
    broken = True

    def judged(example: Any, prediction: Any, trace: Any = None) -> bool:
        if broken:
            raise ValueError("a bug")
        return bool(example.capital == prediction.capital)

    class Known(dspy.Module):  # type: ignore[misc]
        async def aforward(self, country: str) -> Any:
            with (place / "asked").open("a") as file:
                file.write(f"{country}\n")
            return dspy.Prediction(capital=CAPITALS[country])

    first = tab.evaluate(Known(), examples, judged, journal="e.journal", workers=2, retries=0, max_failures="100%")
    assert [prediction.capital for _, prediction, _ in first.results] == list(CAPITALS.values())
    assert sorted((place / "asked").read_text().split()) == sorted(CAPITALS)
    broken = False
    for workers in (0, 2):
        found = tab.evaluate(Known(), examples, judged, journal="e.journal", workers=workers)
        assert [prediction.capital for _, prediction, _ in found.results] == list(CAPITALS.values())
        assert found.score == 100
    assert sorted((place / "asked").read_text().split()) == sorted(CAPITALS)
    assert not (place / "e.predictions").exists()
    told = [record.message for record in caplog.records]
    assert not [message for message in told if "chang" in message or "lack" in message], told


def test_an_interrupt_while_an_answer_is_made_loses_no_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    loads, interrupted = json.loads, []

    def interrupted_once(text: str) -> Any:
        if not interrupted and '"pid"' in text:
            interrupted.append(text)
            raise KeyboardInterrupt
        return loads(text)

    monkeypatch.setattr(json, "loads", interrupted_once)
    rows = [{"question": "x", "n": n} for n in range(600)]
    with pytest.raises(KeyboardInterrupt) as raised:
        tab.map(rows, made, workers=1, concurrency=50)
    answered = [outcome for outcome in raised.value.outcomes if outcome.ok]  # type: ignore[attr-defined]
    assert len(interrupted) == 1 and len({outcome.index for outcome in answered}) == len(answered)
    assert all(outcome.answer == [outcome.index, {"pid": 1}] for outcome in answered)
    asked = Path("asked").read_text().split()
    assert len(answered) == len(asked) == len(set(asked)), (len(answered), len(asked))


async def made(question: str, n: int) -> list[Any]:
    with open("asked", "a") as asked:
        print(n, file=asked)
    return [n, {"pid": 1}]
