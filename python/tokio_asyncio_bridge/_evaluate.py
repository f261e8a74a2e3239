"""Scores a DSPy program on examples, as `dspy.Evaluate` does."""

import asyncio
import contextvars
import importlib
import inspect
import types
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol, Unpack, cast

from tokio_asyncio_bridge import _map
from tokio_asyncio_bridge._answers import Answers
from tokio_asyncio_bridge._drive import Stop
from tokio_asyncio_bridge._errors import UnfinishedError, UsageError
from tokio_asyncio_bridge._options import EvaluateOptions, File, checked
from tokio_asyncio_bridge._progress import ShowProgress
from tokio_asyncio_bridge._tables import results


class Evaluation(Protocol):
    """The `EvaluationResult` of DSPy, with the outcomes of all examples besides."""

    score: float
    """The sum of the scores as a percentage of the number of examples, such as 67.3."""
    results: list[tuple[Any, Any, Any]]
    """For each example the example itself, its prediction and its score."""
    answers: Answers
    """The outcomes, with attempts, latency, usage and cost. The metric's part of them is counted, too."""


def evaluate(
    program: Callable[..., Any],
    devset: Sequence[Any],
    metric: Callable[..., Any],
    *,
    failure_score: float = 0.0,
    journal: File | None = None,
    progress: ShowProgress = None,
    stop: Stop | None = None,
    **options: Unpack[EvaluateOptions],
) -> Evaluation:
    """Asks a DSPy program about each example, and scores its predictions.

    An example whose program or metric fails, after its retries, gets an empty prediction and `failure_score`. A
    prediction whose metric failed is scored again without asking the program again.

    Args:
        program: A `dspy.Module`, or another callable that takes the inputs of an example by name.
        devset: Examples, each with its inputs marked by `with_inputs`.
        metric: Called as `metric(example, prediction)`, also as a coroutine function. It returns a number, a bool, or a
            `dspy.Prediction` with a `score`. A metric that is a plain function runs on a thread of its own.
        failure_score: The score of an example that failed.
        journal: A file that keeps every prediction with its score, so that a second call with the same examples asks
            only about those that have none. A prediction of an earlier call is a new `dspy.Prediction` of what the
            journal holds of its fields, which is JSON, and its score is the one of that time. Another program or metric
            is refused, and a warning says if the code of either has changed.
        progress: As `process` takes it.
        stop: Ends the run when its `stop()` is called.
        options: The options of `map`, except those about the predictor's arguments.

    Returns:
        DSPy's `EvaluationResult`, with `answers` besides. An outcome's latency, usage and cost are those of the program
        and the metric together.

    Raises:
        UsageError: There is no example, or one has no inputs.
        UnfinishedError: The run stopped before every example had its score, for example at `max_cost`. The error's
            attribute `answers` has the outcomes so far.
        BridgeError: Its other classes, as `map` raises them.
    """
    checked("evaluate", options, EvaluateOptions, ("failure_score", "journal", "progress", "stop"))
    dspy: Any = importlib.import_module("dspy")
    examples = list(devset)
    if not examples:
        raise UsageError("`devset` has no example")
    rows = [dict(example.items()) for example in examples]
    with _Scorer(program, metric, examples) as scorer:
        answers = _map.map(rows, scorer.module(dspy.Module), journal=journal, progress=progress, stop=stop, **options)
    if answers.stopped is not None:
        # A score of some of the examples would be taken for that of all.
        unfinished = UnfinishedError(f"not every example has its score: {answers.stopped}", called=True)
        unfinished.answers = answers  # type: ignore[attr-defined]
        raise unfinished
    found = [
        (scorer.results.get(row) or _rebuilt(outcome.answer, dspy))
        if outcome.ok
        else (dspy.Prediction(), failure_score)
        for row, outcome in enumerate(answers)
    ]
    score = round(100 * sum(float(score) for _, score in found) / len(examples), 2)
    tuples = [(example, *result) for example, result in zip(examples, found, strict=True)]
    result: Any = importlib.import_module("dspy.evaluate.evaluate").EvaluationResult(score=score, results=tuples)
    result.answers = answers
    return cast(Evaluation, result)


class _Scorer:
    """The program and its metric as one predictor."""

    def __init__(self, program: Callable[..., Any], metric: Callable[..., Any], examples: list[Any]) -> None:
        self.program = program
        self.metric = metric
        self.examples = examples
        self.inputs = [_inputs(row, example) for row, example in enumerate(examples)]
        # Predictions that have no score yet.
        self.predictions: dict[int, Any] = {}
        # Predictions and their scores.
        self.results: dict[int, tuple[Any, Any]] = {}
        self.threads = ThreadPoolExecutor(max_workers=1000, thread_name_prefix="metric")

    def __enter__(self) -> "_Scorer":
        return self

    def __exit__(self, *_: object) -> None:
        # A metric that hangs has been given up.
        self.threads.shutdown(wait=False, cancel_futures=True)

    def module(self, base: Any) -> Any:
        """A `dspy.Module`, so that the program's calls are metered and its prompts belong to the job."""
        scorer = self

        class Scored(base):  # type: ignore[misc]
            def __init__(self) -> None:
                super().__init__()
                self.program = scorer.program
                self.metric = scorer.metric

        async def aforward(self: Any, /, row_id: int, **row: Any) -> dict[str, Any]:
            prediction = scorer.predictions.get(row_id)
            if prediction is None:
                acall = getattr(scorer.program, "acall", scorer.program)
                scorer.predictions[row_id] = prediction = await acall(**scorer.inputs[row_id])
            arguments = scorer.examples[row_id], prediction
            if _is_asynchronous(scorer.metric):
                score = getattr(scorer.metric, "acall", scorer.metric)(*arguments)
            else:
                run = contextvars.copy_context().run
                loop = asyncio.get_running_loop()
                score = await loop.run_in_executor(scorer.threads, run, scorer.metric, *arguments)
            return scorer.scored(row_id, prediction, await score if inspect.isawaitable(score) else score)

        def forward(self: Any, /, row_id: int, **row: Any) -> dict[str, Any]:
            prediction = scorer.predictions.get(row_id)
            if prediction is None:
                scorer.predictions[row_id] = prediction = scorer.program(**scorer.inputs[row_id])
            score = scorer.metric(scorer.examples[row_id], prediction)
            if inspect.isawaitable(score):
                score = asyncio.run(_awaited(score))
            return scorer.scored(row_id, prediction, score)

        if _is_asynchronous(self.program):
            Scored.aforward = aforward
        else:
            Scored.forward = forward
        # A journal notices that the user's own code has changed.
        for number, function in enumerate([*_functions(self.program), *_functions(self.metric)]):
            setattr(Scored, f"_code_{number}", function)
        named = _named(self.program)
        Scored.__module__ = named.__module__
        Scored.__qualname__ = f"{named.__qualname__}, {_named(self.metric).__qualname__}"
        return Scored()

    def scored(self, row: int, prediction: Any, score: Any) -> dict[str, Any]:
        """The row's answer: the fields of its prediction, and its score as the last one."""
        try:
            float(score)
        except (TypeError, ValueError):
            raise TypeError(
                f"the metric returned a value of type {type(score).__name__}, which is no score\n"
                "hint: return a number, a bool, or a `dspy.Prediction` with a `score`"
            ) from None
        self.results[row] = prediction, score
        # A call that was given up may have been as far.
        self.predictions.pop(row, None)
        answer: dict[str, Any] = results().named(prediction)
        name = "score"
        while name in answer:
            name = f"metric_{name}"
        return {**answer, name: score}


def _inputs(row: int, example: Any) -> dict[str, Any]:
    """The inputs of an example."""
    if "row_id" in example:
        raise UsageError("the examples have a field `row_id`, which stands for the number of the row\nhint: rename it")
    try:
        return dict(example.inputs().items())
    except ValueError as error:
        raise UsageError(
            f"example {row} has no inputs: {error}\nhint: mark them, as in `.with_inputs('question')`"
        ) from None


def _rebuilt(answer: dict[str, Any], dspy: Any) -> tuple[Any, Any]:
    """A prediction and its score of an earlier call, as the journal holds them."""
    *fields, (_, score) = answer.items()
    return dspy.Prediction(**dict(fields)), dspy.Prediction(**score) if isinstance(score, dict) else score


def _is_asynchronous(value: Any) -> bool:
    """Whether a call returns something to be awaited. A `dspy.Module` has an `acall` also if it has no `aforward`."""
    if hasattr(type(value), "acall"):
        return hasattr(type(value), "aforward")
    body = value if hasattr(value, "__qualname__") else type(value).__call__
    return inspect.iscoroutinefunction(body)


def _functions(value: Any) -> list[Any]:
    """The code of a callable: itself if it is a function, or else the methods of its class."""
    parts = [value] if isinstance(value, types.FunctionType) else vars(type(value)).values()
    return [part for part in parts if isinstance(part, types.FunctionType)]


def _named(value: Any) -> Any:
    """What gives a callable its name: itself, or its class."""
    return value if hasattr(value, "__qualname__") else type(value)


async def _awaited(value: Awaitable[Any]) -> Any:
    return await value
