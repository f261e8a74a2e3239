"""`evaluate`, beside what `dspy.Evaluate` gives."""

import asyncio
import json
import logging
import math
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import dspy
import pytest
from dspy.utils import DummyLM
from tokio_asyncio_bridge import (
    MissingPackageError,
    OutputError,
    Stop,
    StoppedError,
    UnfinishedError,
    UsageError,
    evaluate,
)

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


@pytest.mark.parametrize("rows", [True, 2])
def test_the_table_is_that_of_dspy(rows: bool | int, capsys: pytest.CaptureFixture[str]) -> None:
    class Both(Capitals):
        def forward(self, country: str) -> dspy.Prediction:
            return asyncio.run(self.aforward(country))

    examples = devset()
    dspy.Evaluate(devset=examples, metric=exact, max_errors=9, display_table=rows)(Both())
    expected = capsys.readouterr().out
    evaluate(Capitals(), examples, exact, display_table=rows)
    assert capsys.readouterr().out == expected
    assert "Cusco" in expected and ("Japan" in expected) == (rows is True)
    evaluate(Capitals(), examples, exact)
    assert capsys.readouterr().out == ""


def test_a_table_that_cannot_be_shown_does_not_cost_the_result(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.delattr(dspy.evaluate.evaluate.Evaluate, "_display_result_table")
    assert evaluate(Capitals(), devset(), exact, display_table=True).score == 50
    assert "failed to display the table: AttributeError: " in caplog.text
    # Nothing is asked if it is known before.
    monkeypatch.setitem(sys.modules, "pandas", None)
    program = Capitals()
    with pytest.raises(MissingPackageError, match="`pandas` is not installed"):
        evaluate(program, devset(), exact, display_table=True)
    assert program.asked == []


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


def test_a_stop_that_was_used_before_lets_nothing_be_asked() -> None:
    stop, asked = Stop(), list[str]()
    stop.stop()

    class Noted(dspy.Module):
        async def aforward(self, country: str) -> dspy.Prediction:
            asked.append(country)
            return dspy.Prediction(capital=PLACES[country])

    with pytest.raises(StoppedError):
        evaluate(Noted(), devset(), exact, stop=stop)
    assert not asked


def test_the_requests_of_the_program_and_of_the_metric_are_counted() -> None:
    judge = dspy.Predict("expected, guess -> capital")

    def judged(example: dspy.Example, prediction: dspy.Prediction) -> bool:
        return bool(judge(expected=example.capital, guess=prediction.capital).capital == "Paris")

    found = evaluate(dspy.Predict("country -> capital"), devset()[:2], judged)
    assert found.score == 100
    assert found.answers.usage is not None
    assert found.answers.usage.calls == 4


@pytest.mark.parametrize("durable", [False, True])
def test_an_attempt_that_was_given_up_does_not_alter_the_result(durable: bool, tmp_path: Path) -> None:
    class Stubborn(dspy.Module):
        def __init__(self) -> None:
            super().__init__()
            self.calls = 0

        async def aforward(self, country: str) -> dspy.Prediction:
            self.calls += 1
            if country == "Peru":
                await asyncio.sleep(1)
            elif self.calls == 1:
                until = time.monotonic() + 0.7
                while time.monotonic() < until:
                    try:
                        await asyncio.sleep(0.05)
                    except asyncio.CancelledError:
                        continue
                return dspy.Prediction(capital="too late")
            return dspy.Prediction(capital=PLACES[country])

    journal = tmp_path / "run.journal" if durable else None
    found = evaluate(Stubborn(), devset()[:2], exact, journal=journal, timeout=0.4, retries=1, backoff=0.01, grace=2)
    assert found.results[0][1].toDict() == {"capital": "Paris"}
    assert [score for *_, score in found.results] == [True, 0.0]


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_score_that_is_not_finite_is_a_failure_of_the_metric(value: float, tmp_path: Path) -> None:
    def odd(example: dspy.Example, prediction: dspy.Prediction) -> float:
        return value if example.country == "France" else 1.0

    program = Capitals()
    for _ in range(2):
        found = evaluate(program, devset()[:2], odd, journal=tmp_path / "run.journal", retries=0)
        assert found.score == 50
        assert found.answers[0].error is not None
        assert f"the metric returned {value}" in found.answers[0].error.message
        assert found.results[0][1].capital == "Paris"
    assert sorted(program.asked) == ["France", "Peru"]


def test_a_prediction_whose_metric_failed_is_returned_and_later_only_scored(tmp_path: Path) -> None:
    program, journal, broken = Capitals(), tmp_path / "run.journal", True

    def judged(example: dspy.Example, prediction: dspy.Prediction) -> float:
        if broken and example.country != "Japan":
            raise ValueError("a bug")
        return float(prediction.capital == example.capital)

    def predictions(**options: Any) -> list[tuple[Any, Any]]:
        found = evaluate(program, devset(), judged, journal=journal, retries=0, **options)
        return [(prediction.toDict().get("capital"), score) for _, prediction, score in found.results]

    failed = [("Paris", 0.0), ("Cusco", 0.0), (None, 0.0), ("Tokyo", 1.0)]
    assert predictions() == failed
    assert sorted(program.asked) == sorted(PLACES)
    assert (tmp_path / "run.predictions").stat().st_mode & 0o777 == 0o600
    program.asked.clear()
    # A line that was cut off by the end of a process is passed over.
    with (tmp_path / "run.predictions").open("a") as file:
        file.write("[0, {")
    assert predictions(skip_failed=True) == failed
    assert program.asked == []
    broken = False
    assert predictions() == [("Paris", 1.0), ("Cusco", 0.0), (None, 0.0), ("Tokyo", 1.0)]
    assert program.asked == ["Kenya"]


def test_kept_predictions_belong_to_their_journal(tmp_path: Path) -> None:
    program, journal, kept = Capitals(), tmp_path / "run.journal", tmp_path / "run.predictions"

    def broken(example: dspy.Example, prediction: dspy.Prediction) -> float:
        raise ValueError("a bug")

    evaluate(program, devset()[:1], broken, journal=journal, retries=0)
    assert kept.exists()
    evaluate(program, devset()[:1], exact, journal=journal, force=True)
    assert program.asked == ["France", "France"]
    assert not kept.exists()
    kept.write_text("mine")
    with pytest.raises(OutputError, match="holds no predictions"):
        evaluate(program, devset()[:1], exact, journal=journal)
    assert kept.read_text() == "mine"


def test_a_field_that_json_cannot_hold_costs_neither_the_score_nor_another_call(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    class Opaque(Capitals):
        async def aforward(self, country: str) -> dspy.Prediction:
            return dspy.Prediction(proof=self, **await super().aforward(country))

    def judged(example: dspy.Example, prediction: dspy.Prediction) -> dspy.Prediction:
        return dspy.Prediction(score=float(prediction.proof is program), judge=prediction.proof)

    program, journal = Opaque(), tmp_path / "run.journal"
    first = evaluate(program, devset()[:2], judged, journal=journal)
    assert first.results[0][1].proof is first.results[0][2].judge is program
    with caplog.at_level(logging.WARNING, "tokio_asyncio_bridge"):
        again = evaluate(program, devset()[:2], judged, journal=journal)
    assert first.score == again.score == 100
    assert len(program.asked) == 2
    assert again.results[0][1].toDict() == {"capital": "Paris", "sure": True}
    assert "predictions lack the field `proof`, which JSON could not hold; the first is of example 0" in caplog.messages


def test_without_dspy_the_extra_is_named() -> None:
    script = """
import sys
sys.modules["dspy"] = None
import tokio_asyncio_bridge as tab
try:
    tab.evaluate(print, [1], print)
except tab.MissingPackageError as error:
    print(error.hint)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.stdout == "run `pip install 'tokio-asyncio-bridge[dspy]'`\n", done.stderr


def test_a_score_that_an_earlier_version_recorded_as_null_is_a_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program, journal = Capitals(), tmp_path / "run.journal"

    def odd(example: dspy.Example, prediction: dspy.Prediction) -> float:
        return math.nan

    with monkeypatch.context() as earlier:
        earlier.setattr("tokio_asyncio_bridge._evaluate.math", SimpleNamespace(isfinite=lambda number: True))
        evaluate(program, devset()[:1], odd, journal=journal)
    found = evaluate(program, devset()[:1], odd, journal=journal, failure_score=0.25)
    assert (found.score, found.results[0][1].capital, program.asked) == (25, "Paris", ["France"])
