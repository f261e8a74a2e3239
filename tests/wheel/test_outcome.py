"""`Outcome`: what became of a row, as an object."""

import copy
import gc
import pickle
import weakref

import pytest
import tokio_asyncio_bridge as tab


def outcomes() -> list[tab.Outcome]:
    async def predict(question: str) -> str:
        if question == "b":
            raise ValueError("no")
        return question.upper()

    return list(tab.map([{"question": "a"}, {"question": "b"}], predict, retries=0, max_failures="100%"))


def test_an_answered_row_has_its_answer_and_no_error() -> None:
    outcome, _ = outcomes()
    assert (outcome.ok, outcome.answer, outcome.result(), outcome.error) == (True, "A", "A", None)
    assert (outcome.index, outcome.row, outcome.attempts) == (0, {"question": "a"}, 1)
    assert 0 < outcome.latency < 10 and outcome.usage is None and outcome.cost is None


def test_a_failed_row_has_an_error_that_is_the_same_each_time() -> None:
    _, outcome = outcomes()
    assert not outcome.ok and outcome.answer is None and outcome.error is outcome.error
    with pytest.raises(tab.RowError) as caught:
        outcome.result()
    assert caught.value is outcome.error and isinstance(caught.value.__cause__, ValueError)


def test_it_cannot_be_changed() -> None:
    with pytest.raises(AttributeError):
        outcomes()[0].answer = "B"  # type: ignore[misc]


def test_it_can_be_made_of_its_parts() -> None:
    usage = tab.Usage(input=10, output=20, calls=1)
    outcome = tab.Outcome(index=3, row="r", answer="a", attempts=2, latency=0.5, usage=usage, cost=0.25)
    assert (outcome.ok, outcome.usage, outcome.cost, outcome.latency) == (True, usage, 0.25, 0.5)
    error = tab.RowError("too slow", kind="timeout")
    failed = tab.Outcome(index=4, row="r", error=error)
    assert not failed.ok and failed.error is error and failed.attempts == 0


def test_it_can_be_copied_and_pickled() -> None:
    for outcome in outcomes():
        for other in (pickle.loads(pickle.dumps(outcome)), copy.copy(outcome)):
            assert (other.index, other.row, other.answer) == (outcome.index, outcome.row, outcome.answer)
            assert (other.attempts, other.latency) == (outcome.attempts, outcome.latency)
            assert str(other.error) == str(outcome.error)


def test_its_repr_says_what_became_of_the_row() -> None:
    answered, failed = outcomes()
    assert "index=0, row={'question': 'a'}, answer='A', attempts=1" in repr(answered)
    assert "error=RowError('no')" in repr(failed)


def test_a_circle_through_it_is_collected() -> None:
    class Thing:
        outcome: tab.Outcome | None = None

    thing = Thing()
    alive = weakref.ref(thing)
    thing.outcome = tab.Outcome(index=0, row=thing)
    del thing
    gc.collect()
    assert alive() is None
