"""Predictors that are Python objects: what may be given, and what their calls see."""

import asyncio
import contextvars
import functools
import gc
import os
import subprocess
import sys
import textwrap
import threading
import time
import weakref
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import tokio_asyncio_bridge as tab
from asked import answers

USER = contextvars.ContextVar("USER", default="nobody")


def python(code: str, *arguments: str) -> str:
    """Runs a program in a Python of its own, and returns what it printed."""
    program = [sys.executable, *(arguments or ("-c", textwrap.dedent(code)))]
    ended = subprocess.run(program, capture_output=True, text=True, timeout=120)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


async def shout(question: str) -> str:
    await asyncio.sleep(0)
    return question.upper()


async def in_chunks(question: str) -> AsyncIterator[str]:
    for part in (question, "!"):
        yield part


async def with_suffix(question: str, suffix: str) -> str:
    return question + suffix


class Counter:
    def __init__(self) -> None:
        self.calls = 0

    async def method(self, question: str) -> str:
        return f"{question} by method"

    async def __call__(self, question: str, n: int) -> str:
        self.calls += 1
        return f"{question} {n + 1}"


class Awaited:
    async def acall(self, question: str) -> str:
        return f"{question} awaited"


def closure() -> Callable[..., Any]:
    async def inner(question: str) -> str:
        return f"{question} within"

    return inner


@pytest.mark.parametrize(
    ("predictor", "expected", "name"),
    [
        (shout, ["A", "B"], "test_predictor:shout"),
        (in_chunks, ["a!", "b!"], "test_predictor:in_chunks"),
        (closure(), ["a within", "b within"], "test_predictor:closure.<locals>.inner"),
        (lambda question: question * 2, ["aa", "bb"], "test_predictor:<lambda>"),
        (functools.partial(with_suffix, suffix="?"), ["a?", "b?"], "test_predictor:with_suffix"),
        (Counter(), ["a 2", "b 3"], "test_predictor:Counter"),
        (Counter, ["a 2", "b 3"], "test_predictor:Counter"),
        (Counter().method, ["a by method", "b by method"], "test_predictor:Counter.method"),
        (Awaited(), ["a awaited", "b awaited"], "test_predictor:Awaited"),
        ("{question}.".format, ["a.", "b."], "builtins:str.format"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_whatever_can_be_called_is_a_predictor(
    place: Path, predictor: Callable[..., Any], expected: list[str], name: str
) -> None:
    report = tab.process("q.csv", predictor=predictor, concurrency=1)
    assert report.rows.failed == 0, Path("q.answers.csv").read_text()
    assert (answers(), report.run.predictor) == (expected, name)


def test_an_instance_is_the_callers_own_and_a_class_is_made_for_each_run(place: Path) -> None:
    counter = Counter()
    tab.process("q.csv", "one.csv", predictor=counter)
    tab.process("q.csv", "two.csv", predictor=counter)
    assert counter.calls == 4


def test_nothing_is_imported_and_no_directory_is_searched(place: Path) -> None:
    before = (list(sys.path), os.getcwd(), {name for name in sys.modules if "tokio_asyncio_bridge" not in name})
    tab.process("q.csv", predictor=shout)
    after = (list(sys.path), os.getcwd(), {name for name in sys.modules if "tokio_asyncio_bridge" not in name})
    assert before[:2] == after[:2]
    assert not [name for name in after[2] - before[2] if "predictor" in name or "shout" in name]


async def whose(question: str) -> str:
    user = USER.get()
    USER.set("a call")
    return user


def whose_on_a_thread(question: str) -> str:
    return USER.get()


@pytest.mark.parametrize("predictor", [whose, whose_on_a_thread])
def test_calls_see_the_context_variables_of_the_caller(place: Path, predictor: Callable[..., Any]) -> None:
    token = USER.set("Ada")
    try:
        tab.process("q.csv", predictor=predictor)
        assert USER.get() == "Ada"
    finally:
        USER.reset(token)
    assert answers() == ["Ada", "Ada"]


def test_each_of_several_callers_has_a_context_of_its_own(place: Path) -> None:
    def run(user: str) -> None:
        USER.set(user)
        tab.process("q.csv", f"{user}.csv", predictor=whose)

    threads = [threading.Thread(target=run, args=(user,)) for user in ("Ada", "Bea", "Eve")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for user in ("Ada", "Bea", "Eve"):
        assert answers(f"{user}.csv") == [user, user]


def test_map_and_stream_see_what_holds_when_they_are_called(place: Path) -> None:
    async def streamed() -> list[Any]:
        token = USER.set("Ada")
        outcomes = tab.stream([{"question": "a"}], whose)
        USER.reset(token)
        return [outcome.answer async for outcome in outcomes]

    assert asyncio.run(streamed()) == ["Ada"]
    token = USER.set("Bea")
    assert [outcome.answer for outcome in tab.map([{"question": "a"}], whose)] == ["Bea"]
    USER.reset(token)


def test_nothing_is_kept_of_a_predictor_when_its_run_has_ended(place: Path) -> None:
    class Held:
        async def __call__(self, question: str) -> str:
            return question

    class Set:
        pass

    held, value = Held(), Set()
    var: contextvars.ContextVar[Set] = contextvars.ContextVar("var")
    kept = [weakref.ref(held), weakref.ref(value)]
    context = contextvars.copy_context()
    context.run(var.set, value)
    context.run(tab.process, "q.csv", predictor=held)
    context.run(tab.map, [{"question": "a"}], held)
    del held, value, context
    until = time.monotonic() + 10
    while any(one() is not None for one in kept) and time.monotonic() < until:
        time.sleep(0.05)
        gc.collect()
    assert [one() for one in kept] == [None, None]


HOSTILE = """
def touched(*_):
    raise SystemExit("touched")
class Evil:
    __getattr__ = __getattribute__ = __eq__ = __hash__ = __iter__ = __bool__ = touched
    __class__ = property(touched)
class Weird:
    __module__ = ["no", "name"]
    __dict__ = property(touched)
evil, weird = Evil(), Weird()
class Predict:
    evil = evil
    weird = weird
    async def __call__(self, question):
        return question
predict = Predict()
"""


def test_looking_at_a_predictor_runs_none_of_its_code(place: Path) -> None:
    run = "import tokio_asyncio_bridge as tab\nprint(tab.process('q.csv', predictor=predict).run.predictor)\n"
    assert python(HOSTILE + run) == "__main__:Predict\n"
    assert answers() == ["a", "b"]


@pytest.mark.parametrize(
    ("predictor", "message"),
    [
        (3, r"takes a SPEC such as `app.py:answer`, or something to call, not int"),
        (shout("a"), r"is one call, `shout\(…\)`, and not what to call: give `shout` itself"),
        (in_chunks("a"), r"is one call, `in_chunks\(…\)`"),
        (asyncio, r"is the module `asyncio`: give a function of it"),
        (type("Ask", (), {"__init__": lambda self, key: None}), r"is the class `Ask`, and making one needs .*'key'"),
    ],
    ids=["number", "coroutine", "generator", "module", "class"],
)
@pytest.mark.filterwarnings("ignore:coroutine 'shout' was never awaited")
def test_what_cannot_be_called_is_refused_at_once(place: Path, predictor: Any, message: str) -> None:
    with pytest.raises(TypeError, match=f"`predictor=` {message}"):
        tab.process("q.csv", predictor=predictor)
    assert not Path("q.answers.csv.journal").exists()


def test_what_takes_no_column_is_refused_with_its_name(place: Path) -> None:
    with pytest.raises(tab.PredictorError, match="<lambda>`: the predictor takes no argument"):
        tab.process("q.csv", predictor=lambda: 1)


# DSPy.


@pytest.fixture
def dspy() -> Any:
    import dspy

    return dspy


def lm(dspy: Any, name: str) -> Any:
    """A model that answers anything with its name."""
    return dspy.utils.DummyLM({"": {"reasoning": "", "answer": name}})


def test_the_models_of_the_calling_code_are_asked(place: Path, dspy: Any) -> None:
    class Quiz(dspy.Module):  # type: ignore[misc, unused-ignore]
        def __init__(self) -> None:
            super().__init__()
            self.ask = dspy.Predict("question -> answer")

        async def aforward(self, question: str) -> Any:
            return await self.ask.acall(question=question)

    async def within(question: str) -> str:
        return str((await dspy.Predict("question -> answer").acall(question=question)).answer)

    quiz = Quiz()
    with dspy.context(lm=lm(dspy, "of the context")):
        report = tab.process("q.csv", "1.csv", predictor=quiz)
        tab.process("q.csv", "2.csv", predictor=within)
        tab.process("q.csv", "3.csv", predictor=dspy.ChainOfThought("question -> answer"))
    assert report.run.predictor.endswith(":test_the_models_of_the_calling_code_are_asked.<locals>.Quiz")
    for file in ("1.csv", "2.csv", "3.csv"):
        assert answers(file) == ["of the context"] * 2
    assert dspy.settings.lm is None


def test_a_configured_model_is_asked_and_stays_configured(place: Path) -> None:
    code = """
        import dspy, tokio_asyncio_bridge as tab
        own = dspy.utils.DummyLM({"": {"answer": "configured"}})
        dspy.configure(lm=own)
        ask = dspy.Predict("question -> answer")
        def run(file, predictor, **options):
            report = tab.process("q.csv", file, predictor=predictor, **options)
            print(report.rows.ok, dspy.settings.lm is own, ask.demos, ask.lm)
        run("1.csv", ask)
        run("2.csv", ask)
        # A model that is named takes its place. Nothing listens there.
        run("3.csv", ask, model="openai/x", api_base="http://127.0.0.1:9/v1", retries=0, max_failures="100%")
    """
    assert python(code).splitlines() == ["2 True [] None", "2 True [] None", "0 True [] None"]
    assert answers("1.csv") == ["configured"] * 2


def test_a_saved_program_is_not_loaded_into_the_callers_module(place: Path, dspy: Any) -> None:
    ask = dspy.Predict("question -> answer")
    saved = ask.deepcopy()
    saved.demos = [dspy.Example(question="x", answer="y")]
    saved.save("program.json")
    with dspy.context(lm=lm(dspy, "with demos")):
        tab.process("q.csv", predictor=ask, program="program.json")
    assert (answers(), ask.demos) == (["with demos"] * 2, [])


def test_other_instructions_of_a_module_are_refused(place: Path, dspy: Any) -> None:
    signature = dspy.Signature("question -> answer", "Be brief.")
    with dspy.context(lm=lm(dspy, "brief")):
        tab.process("q.csv", predictor=dspy.Predict(signature), limit=1)
        with pytest.raises(tab.ChangedError, match=r"instructions of `self` were `Be brief\.` in the earlier run"):
            tab.process("q.csv", predictor=dspy.Predict(signature.with_instructions("Be long.")))


def test_a_client_of_the_notebook_that_repeats_requests_is_told_of(place: Path) -> None:
    code = """
        import dspy, logging, tokio_asyncio_bridge as tab
        logging.basicConfig(level=logging.WARNING, format="%(message)s", force=True)
        client = dspy.LM("openai/x", num_retries=5, cache=False)
        unused = dspy.LM("openai/y", num_retries=7, cache=False)
        async def predict(question):
            return str(client.num_retries)
        tab.process("q.csv", predictor=predict)
    """
    ended = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True)
    assert "`num_retries=5` of `client`" in ended.stderr and "unused" not in ended.stderr, ended.stderr
