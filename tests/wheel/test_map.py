"""`map`: rows in memory, their outcomes in order."""

import asyncio
import functools
import gc
import signal
import subprocess
import sys
import textwrap
import threading
import time
import weakref
from collections import OrderedDict, UserDict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import tokio_asyncio_bridge as tab
from child import end, start


async def upper(question: str) -> str:
    await asyncio.sleep(0)
    return question.upper()


def rows(count: int) -> list[dict[str, str]]:
    return [{"question": f"q{index}"} for index in range(count)]


def test_every_row_has_its_outcome_in_the_order_of_the_rows() -> None:
    given = rows(20_000)
    outcomes = tab.map(given, upper, concurrency=100)
    assert [outcome.index for outcome in outcomes] == list(range(20_000))
    assert all(
        outcome.ok and outcome.answer == row["question"].upper() for outcome, row in zip(outcomes, given, strict=True)
    )
    assert all(outcome.row is row for outcome, row in zip(outcomes, given, strict=True))
    assert {outcome.attempts for outcome in outcomes} == {1}


def test_a_spec_a_plain_function_and_a_generator_function_are_predictors_too(tmp_path: Any) -> None:
    file = tmp_path / "app.py"
    file.write_text("async def answer(question):\n    return question + '!'\n")

    async def chunks(question: str) -> Any:
        yield question
        yield "!"

    for predictor in (f"{file}:answer", lambda question: question + "!", chunks):
        assert [outcome.answer for outcome in tab.map(rows(3), predictor)] == ["q0!", "q1!", "q2!"]


def test_an_answer_is_the_very_object_that_was_returned() -> None:
    class Thing:
        pass

    things = [Thing() for _ in range(100)]

    async def pick(which: int) -> Thing:
        return things[which]

    outcomes = tab.map([{"which": which} for which in range(100)], pick)
    assert all(outcome.answer is thing for outcome, thing in zip(outcomes, things, strict=True))
    alive = weakref.ref(things[0])
    things.clear()
    del outcomes
    gc.collect()
    assert alive() is None


@pytest.mark.parametrize("value", [None, 0, [], {}, {"a": {1, 2}}, b"\xff", object(), float("nan")])
def test_any_value_is_an_answer(value: object) -> None:
    async def same(question: str) -> object:
        return value

    [outcome] = tab.map(rows(1), same)
    assert outcome.ok and outcome.answer is value and outcome.result() is value


def test_arguments_are_passed_as_they_are_and_by_name() -> None:
    seen = []

    async def predict(a: int, b: object = "default", *, row_id: int, attempt: int) -> int:
        seen.append((a, b, row_id, attempt))
        return a

    given = [{"a": 1, "b": None, "c": "ignored"}, {"a": "text"}, OrderedDict(a=3), UserDict(a=4)]
    tab.map(given, predict, sequential=True)
    assert seen == [(1, None, 0, 1), ("text", "default", 1, 1), (3, "default", 2, 1), (4, "default", 3, 1)]


def test_a_predictor_that_takes_all_gets_all() -> None:
    async def predict(a: int, **others: Any) -> dict[str, Any]:
        return others

    [outcome] = tab.map([{"a": 1, "b": 2, "c": 3}], predict)
    assert outcome.answer == {"b": 2, "c": 3}


def test_a_key_can_be_mapped_to_a_parameter() -> None:
    [outcome] = tab.map([{"text": "x"}], upper, map={"question": "text"})
    assert outcome.answer == "X"
    [outcome] = tab.map([{"text": "y"}], upper, column="text")
    assert outcome.answer == "Y"


def test_a_row_that_is_no_mapping_is_the_one_argument() -> None:
    async def predict(text: str, times: int = 2) -> str:
        return text * times

    async def two(a: str, b: str) -> str:
        return a + b

    assert [outcome.answer for outcome in tab.map(["a", "b"], predict)] == ["aa", "bb"]
    [outcome] = tab.map(["a"], two, max_failures="100%")
    assert outcome.error is not None and outcome.error.type == "input" and outcome.attempts == 0


def test_a_row_that_lacks_a_key_fails_without_a_call() -> None:
    called = []

    async def predict(question: str) -> str:
        called.append(question)
        return question

    outcomes = tab.map([{"query": "a"}, {"question": "b"}, {}], predict, max_failures="100%")
    assert [outcome.ok for outcome in outcomes] == [False, True, False] and called == ["b"]
    error = outcomes[0].error
    assert error is not None and error.kind == "input" and outcomes[0].attempts == 0
    assert str(error) == "the row lacks the key `question` for the parameter `question`; it has `query`"
    assert outcomes[0].answer is None and outcomes[0].row == {"query": "a"}


def test_an_error_has_its_class_and_the_exception_itself() -> None:
    raised = ValueError("no such thing")

    async def predict(question: str) -> str:
        if question == "q1":
            raise raised
        return question

    outcomes = tab.map(rows(3), predict, retries=0)
    error = outcomes[1].error
    assert isinstance(error, tab.RowError) and isinstance(error, tab.BridgeError)
    assert (error.kind, error.type, str(error), error.__cause__) == ("predictor", "ValueError", "no such thing", raised)
    assert error is outcomes[1].error and error.traceback is not None and "raise raised" in error.traceback
    with pytest.raises(tab.RowError, match="no such thing"):
        outcomes[1].result()


def test_a_failed_attempt_is_made_again_and_a_slow_one_times_out() -> None:
    attempts: dict[str, int] = {}

    async def predict(question: str) -> str:
        attempts[question] = attempts.get(question, 0) + 1
        if question == "q0" and attempts[question] < 3:
            raise ConnectionError("dropped")
        if question == "q1":
            await asyncio.sleep(60)
        return question

    outcomes = tab.map(rows(3), predict, retries=3, backoff=0.01, timeout=0.2, row_timeout=0.3)
    assert [(outcome.ok, outcome.attempts) for outcome in outcomes[::2]] == [(True, 3), (True, 1)]
    error = outcomes[1].error
    assert error is not None and error.kind == "timeout" and error.__cause__ is None


def test_a_run_that_stops_early_keeps_every_outcome_and_says_which_rows_have_none() -> None:
    async def predict(question: str) -> str:
        if question != "q0":
            raise ValueError("no")
        return question

    answers = tab.map(rows(1_000), predict, retries=0, max_failures=5, sequential=True)
    assert len(answers) == 1_000 and answers[0].answer == "q0"
    kinds = [outcome.error.kind for outcome in answers if outcome.error is not None]
    assert kinds[:5] == ["predictor"] * 5 and kinds[-1] == "unfinished"
    assert answers.stopped == "5 of 6 finished rows failed"


def test_rows_from_a_generator_are_called_while_more_come_and_its_error_keeps_the_outcomes() -> None:
    called = threading.Event()

    async def predict(question: str) -> str:
        called.set()
        return question

    def generator() -> Iterator[dict[str, str]]:
        yield {"question": "a"}
        time.sleep(0.05)
        yield {"question": "b"}
        assert called.wait(10)
        raise LookupError("no more")

    with pytest.raises(LookupError) as caught:
        tab.map(generator(), predict)
    assert [outcome.answer for outcome in caught.value.outcomes] == ["a", "b"]


def test_no_rows_are_no_outcomes() -> None:
    assert list(tab.map([], upper)) == [] and list(tab.map(iter(()), upper)) == []


def test_context_variables_are_the_callers_and_a_partial_is_a_predictor() -> None:
    async def predict(question: str, end: str) -> str:
        return question + end

    outcomes = tab.map(rows(1), functools.partial(predict, end="?"))
    assert outcomes[0].answer == "q0?"


def test_it_works_within_a_running_loop_and_in_several_threads_at_once() -> None:
    async def main() -> int:
        return len(tab.map(rows(100), upper))

    assert asyncio.run(main()) == 100
    done: list[int] = []
    threads = [threading.Thread(target=lambda: done.append(len(tab.map(rows(2_000), upper)))) for _ in range(3)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert done == [2_000] * 3


def test_an_option_that_does_not_fit_is_refused() -> None:
    with pytest.raises(TypeError, match="concurency"):
        tab.map(rows(1), upper, concurency=1)  # type: ignore[call-arg]
    with pytest.raises(tab.UsageError, match="timeout="):
        tab.map(rows(1), upper, timeout=-1.0)
    with pytest.raises(tab.PredictorError):
        tab.map(rows(1), "no_such_module:predict")
    with pytest.raises(tab.UsageError, match="max_cost"):
        tab.map(rows(1), upper, max_cost=1.0)


def test_tokens_a_minute_are_estimated_from_rows_and_answers_that_stay_objects() -> None:
    async def predict(question: object) -> object:
        return question

    values = [1, "x" * 100, {"a": {1}}, None]
    outcomes = tab.map([{"question": value} for value in values], predict, tpm=100_000)
    assert [outcome.answer for outcome in outcomes] == values


def test_stop_ends_it_from_another_thread() -> None:
    stop = tab.Stop()

    async def slow(question: str) -> str:
        await asyncio.sleep(0 if question == "q0" else 0.3)
        return question

    threading.Timer(0.5, stop.stop).start()
    answers = tab.map(rows(1_000), slow, concurrency=2, stop=stop)
    assert answers[0].ok and not answers[999].ok and len(answers) == 1_000


SCRIPT = """
    import asyncio, tokio_asyncio_bridge as tab

    async def predict(question):
        print("called", flush=True)
        await asyncio.sleep({sleep} if question != "q0" else 0)
        return question

    try:
        tab.map([{{"question": f"q{{i}}"}} for i in range(1000)], predict, concurrency=10)
    except KeyboardInterrupt as interrupt:
        assert interrupt.report is None
        print(*[outcome.answer for outcome in interrupt.outcomes if outcome.ok], flush=True)
"""


# With the first row's, ten calls are in flight when the signal comes. One signal lets them end; a second does not.
@pytest.mark.parametrize(("sleep", "signals", "answers"), [(1, 1, 11), (100, 2, 1)])
def test_ctrl_c_raises_keyboard_interrupt_with_what_was_answered(sleep: int, signals: int, answers: int) -> None:
    command = [sys.executable, "-c", textwrap.dedent(SCRIPT.format(sleep=sleep))]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert child.stdout is not None and child.stderr is not None
    for _ in range(11):
        assert child.stdout.readline() == "called\n"
    child.send_signal(signal.SIGINT)
    assert child.stderr.readline().startswith("stopping: waiting")
    for _ in range(signals - 1):
        child.send_signal(signal.SIGINT)
    out, err = child.communicate(timeout=30)
    assert child.returncode == 0, err
    assert out.splitlines()[-1].split() == [f"q{number}" for number in range(answers)]


def test_runs_leave_no_thread() -> None:
    tab.map(rows(1), upper)
    before = threading.active_count(), _threads()
    for _ in range(20):
        tab.map(rows(10), upper)
    until = time.monotonic() + 10
    while _threads() > before[1] and time.monotonic() < until:
        time.sleep(0.05)
    assert (threading.active_count(), _threads()) <= before


def _threads() -> int:
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("Threads:"))


def test_what_an_earlier_attempt_left_may_run_python_when_it_is_dropped(tmp_path: Path) -> None:
    code = """
    import asyncio, time
    import tokio_asyncio_bridge as tab

    class Slow:
        def __del__(self):
            time.sleep(0.01)  # Gives up the interpreter's lock.

    async def predict(number, attempt):
        if number % 500:
            return await asyncio.sleep(0.001, number)
        if attempt == 1:
            held = Slow()
            raise ConnectionError("gone")
        await asyncio.sleep(60)

    rows = [{"number": number} for number in range(20_000)]
    answers = tab.map(rows, predict, concurrency=50, retries=1, backoff="1ms", timeout="300ms", max_failures=100)
    assert {answers[number].error.kind for number in range(0, 20_000, 500)} == {"timeout"}, answers.failed
    """
    end(start(tmp_path, code), within=100)
