"""Each function leaves the process as it was, also where the calls fail and where Ctrl-C ends it."""

from pathlib import Path

import pytest
from child import run
from test_guest import BEGIN

FUNCTIONS = """
import gc, signal
import dspy
from dspy.utils import DummyLM

dspy.configure(lm=DummyLM([]))
ROWS = [{"question": name} for name in "abcd"]

async def answer(question): return question
def plain(question): return question
async def fails(question): raise ValueError(question)
async def interrupts(question):
    os.kill(os.getpid(), signal.SIGINT)
    await asyncio.sleep(0.3)
    return question
PREDICTORS = [answer, plain, fails, interrupts, "app.py:thread", "app.py:missing"]

async def streamed(predictor):
    return [outcome async for outcome in tab.stream(ROWS, predictor, retries=0)]

def resumed(predictor):
    tab.process("q.csv", "r.csv", predictor=fails, retries=0, force=True)
    return tab.resume("r.csv", predictor=predictor, allow_changed=True, retries=0)

def scored(predictor):
    async def program(question):
        return dspy.Prediction(answer=await predictor(question) if predictor is not plain else plain(question))
    if isinstance(predictor, str):
        return tab.map([dict(question="a")], predictor)
    devset = [dspy.Example(**row).with_inputs("question") for row in ROWS]
    return tab.evaluate(program, devset, lambda example, prediction: 1.0, retries=0)

RUNS = {
    "process": lambda predictor: tab.process("q.csv", "p.csv", predictor=predictor, retries=0, force=True),
    "resume": resumed,
    "compare": lambda predictor: tab.compare("q.csv", predictor=predictor, runs=1, concurrency=[2], retries=0),
    "map": lambda predictor: tab.map(ROWS, predictor, retries=0),
    "map with a journal": lambda predictor: tab.map(ROWS, predictor, retries=0, journal="m.journal", force=True),
    "stream": lambda predictor: asyncio.run(streamed(predictor)),
    "evaluate": scored,
}
"""


@pytest.mark.once
@pytest.mark.parametrize(
    "function", ["process", "resume", "compare", "map", "map with a journal", "stream", "evaluate"]
)
def test_nothing_of_the_process_is_otherwise_after_a_function(tmp_path: Path, function: str) -> None:
    run(
        tmp_path,
        BEGIN
        + FUNCTIONS
        + f"""
job = RUNS["{function}"]
def jobs():
    for predictor in PREDICTORS:
        ended = "in order"
        try:
            job(predictor)
        except (KeyboardInterrupt, tab.PredictorError) as error:
            ended = type(error).__name__
        expected = {{interrupts: "KeyboardInterrupt", "app.py:missing": "PredictorError"}}.get(predictor, "in order")
        assert ended == expected, (predictor, ended)
        # The exception of a task of asyncio and its traceback are a cycle, which holds what the frames refer to.
        gc.collect()
        yield predictor

before = settled()
# The one exit function that stays.
before["exit functions"] += 1
for what in jobs():
    check(what, before)
""",
    )
