"""`evaluate`, beside what `dspy.Evaluate` gives."""

import asyncio
import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dspy
import pytest
from dspy.utils import DummyLM
from tokio_asyncio_bridge import UnfinishedError, UsageError, evaluate

PLACES = {"France": "Paris", "Peru": "Lima", "Kenya": "Nairobi", "Japan": "Tokyo"}


@pytest.fixture(autouse=True)
def no_model() -> Iterator[None]:
    """Without a model of the user's, the local one would be started."""
    with dspy.context(lm=DummyLM([{"capital": "Paris"}] * 9)):
        yield


class Capitals(dspy.Module):
    """Knows all but one capital, and counts what it is asked."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[str] = []

    async def aforward(self, country: str) -> dspy.Prediction:
        self.asked.append(country)
        if country == "Kenya":
            raise ValueError("no idea")
        return dspy.Prediction(capital=PLACES[country] if country != "Peru" else "Cusco", sure=True)


def devset() -> list[dspy.Example]:
    return [
        dspy.Example(country=country, capital=capital).with_inputs("country") for country, capital in PLACES.items()
    ]


def exact(example: dspy.Example, prediction: dspy.Prediction, trace: Any = None) -> bool:
    return bool(example.capital == prediction.capital)


def test_the_result_is_that_of_dspy() -> None:
    class Both(Capitals):
        def forward(self, country: str) -> dspy.Prediction:
            return asyncio.run(self.aforward(country))

    examples = devset()
    expected = dspy.Evaluate(devset=examples, metric=exact, failure_score=0.5, max_errors=9)(Both())
    found = evaluate(Capitals(), examples, exact, failure_score=0.5)
    assert isinstance(found, type(expected))
    assert found.score == expected.score == 62.5
    assert [(e, p.toDict(), s) for e, p, s in found.results] == [(e, p.toDict(), s) for e, p, s in expected.results]
    assert found.results[0][0] is examples[0]
    assert [outcome.ok for outcome in found.answers] == [True, True, False, True]
    assert found.answers[2].error is not None
    assert found.answers[2].error.message == "no idea"


@pytest.mark.parametrize("kind", ["function", "coroutine function", "module"])
def test_a_metric_may_wait_and_may_return_a_prediction(kind: str) -> None:
    def judged(example: dspy.Example, prediction: dspy.Prediction) -> dspy.Prediction:
        return dspy.Prediction(score=0.25, feedback=f"{prediction.capital}?")

    async def waiting(example: dspy.Example, prediction: dspy.Prediction, trace: Any = None) -> dspy.Prediction:
        await asyncio.sleep(0.01)
        return judged(example, prediction)

    class Judge(dspy.Module):
        async def aforward(self, example: dspy.Example, prediction: dspy.Prediction) -> dspy.Prediction:
            return await waiting(example, prediction)

    metric = {"function": judged, "coroutine function": waiting, "module": Judge()}[kind]
    found = evaluate(Capitals(), devset(), metric)
    assert found.score == 18.75
    assert found.results[0][2].feedback == "Paris?"


def test_a_metric_that_blocks_holds_up_neither_the_program_nor_other_metrics() -> None:
    running: list[int] = []

    def slow(example: dspy.Example, prediction: dspy.Prediction) -> float:
        running.append(threading.active_count())
        time.sleep(0.3)
        return 1.0

    examples = [dspy.Example(country="France", n=n).with_inputs("country") for n in range(20)]
    began = time.monotonic()
    assert evaluate(Capitals(), examples, slow, concurrency=20).score == 100
    assert time.monotonic() - began < 3


def test_a_program_without_aforward_runs_on_threads() -> None:
    class Plain(dspy.Module):
        def forward(self, country: str) -> dspy.Prediction:
            time.sleep(0.01)
            return dspy.Prediction(capital=PLACES[country])

    async def waiting(example: dspy.Example, prediction: dspy.Prediction) -> bool:
        return exact(example, prediction)

    assert evaluate(Plain(), devset(), exact).score == 100
    assert evaluate(Plain(), devset(), waiting).score == 100


def test_a_metric_that_fails_is_tried_again_without_asking_the_program_again() -> None:
    program, failures = Capitals(), iter([True])

    def shaky(example: dspy.Example, prediction: dspy.Prediction) -> float:
        if next(failures, False):
            raise ConnectionError("the judge is away")
        return 1.0

    found = evaluate(program, devset()[:1], shaky, backoff=0.01)
    assert (found.score, found.answers[0].attempts, program.asked) == (100, 2, ["France"])


def test_with_a_journal_nothing_is_asked_twice_and_predictions_come_back(tmp_path: Path) -> None:
    program, journal = Capitals(), tmp_path / "run.journal"
    first = evaluate(program, devset(), exact, journal=journal)
    assert sorted(program.asked) == sorted(PLACES)
    program.asked.clear()
    again = evaluate(program, devset(), exact, journal=journal, skip_failed=True)
    assert program.asked == []
    assert again.score == first.score == 50
    assert [type(prediction) for _, prediction, _ in again.results] == [dspy.Prediction] * 4
    assert again.results[0][1].toDict() == {"capital": "Paris", "sure": True}
    assert [score for *_, score in again.results] == [True, False, 0.0, True]
    more = [*devset(), dspy.Example(country="Japan", capital="Kyoto").with_inputs("country")]
    evaluate(program, more, exact, journal=journal, skip_failed=True)
    assert program.asked == ["Japan"]


def test_another_metric_is_another_job(tmp_path: Path) -> None:
    journal = tmp_path / "run.journal"

    def lenient(example: dspy.Example, prediction: dspy.Prediction) -> float:
        return 1.0

    evaluate(Capitals(), devset(), exact, journal=journal)
    with pytest.raises(Exception, match="lenient"):
        evaluate(Capitals(), devset(), lenient, journal=journal)


def test_a_journal_holds_the_examples_and_the_score(tmp_path: Path) -> None:
    evaluate(Capitals(), devset(), exact, journal=tmp_path / "run.jsonl")
    rows = [json.loads(line) for line in (tmp_path / "run.jsonl").read_text().splitlines()]
    assert rows[0].items() >= {"country": "France", "capital": "Paris", "score": True, "status": "ok"}.items()


def test_examples_without_inputs_are_refused_before_any_call() -> None:
    program = Capitals()
    with pytest.raises(UsageError, match="example 0 has no inputs"):
        evaluate(program, [dspy.Example(country="France")], exact)
    with pytest.raises(UsageError, match="no example"):
        evaluate(program, [], exact)
    assert program.asked == []


def test_a_metric_that_returns_no_number_is_named() -> None:
    found = evaluate(Capitals(), devset()[:1], lambda example, prediction: None)
    assert found.score == 0
    assert found.answers[0].error is not None
    assert "the metric returned a value of type NoneType" in found.answers[0].error.message


def test_what_was_stopped_before_its_end_gets_no_score() -> None:
    class Slow(dspy.Module):
        async def aforward(self, country: str) -> dspy.Prediction:
            await asyncio.sleep(0 if country == "France" else 30)
            return dspy.Prediction(capital=PLACES[country])

    with pytest.raises(UnfinishedError, match="not every example has its score") as stopped:
        evaluate(Slow(), devset(), exact, deadline=0.5, grace=0.1)
    assert [outcome.ok for outcome in stopped.value.answers] == [True, False, False, False]


def test_the_requests_of_the_program_and_of_the_metric_are_counted() -> None:
    judge = dspy.Predict("expected, guess -> capital")

    def judged(example: dspy.Example, prediction: dspy.Prediction) -> bool:
        return bool(judge(expected=example.capital, guess=prediction.capital).capital == "Paris")

    found = evaluate(dspy.Predict("country -> capital"), devset()[:2], judged)
    assert found.score == 100
    assert found.answers.usage is not None
    assert found.answers.usage.calls == 4
