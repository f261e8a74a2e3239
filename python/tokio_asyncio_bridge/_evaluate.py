"""Scores a DSPy program on examples, as `dspy.Evaluate` does."""

import asyncio
import contextvars
import importlib
import inspect
import math
import os
import types
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from tempfile import TemporaryDirectory
from typing import Any, Protocol, Unpack, cast

from tokio_asyncio_bridge import _map
from tokio_asyncio_bridge._answers import LOG, Answers
from tokio_asyncio_bridge._drive import Stop
from tokio_asyncio_bridge._errors import UnfinishedError, UsageError
from tokio_asyncio_bridge._options import EvaluateOptions, File, are_elsewhere, checked
from tokio_asyncio_bridge._outcome import Outcome
from tokio_asyncio_bridge._predictions import Predictions
from tokio_asyncio_bridge._progress import ShowProgress
from tokio_asyncio_bridge._tables import library, results

# What an answer has in the place of a value that JSON cannot hold: a mapping of this key to the name of its type.
_UNRECORDED = "__unrecorded__"


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
    display_table: bool | int = False,
    journal: File | None = None,
    progress: ShowProgress = None,
    stop: Stop | None = None,
    **options: Unpack[EvaluateOptions],
) -> Evaluation:
    """Asks a DSPy program about each example, and scores its predictions.

    An example whose program or metric fails, after its retries, gets `failure_score`. Its prediction is empty if the
    program failed, and else the one that the metric failed on. A retry of the metric does not ask the program again.

    With `workers=2` other processes make the calls. Each gets a copy of the program, the examples and the metric, and
    scores its own predictions: a metric sees the very prediction, and the metric's code uses more than one core, too.
    The result then has new predictions of what JSON holds of their fields, as of an earlier call with `journal=`.

    Args:
        program: A `dspy.Module`, or another callable that takes the inputs of an example by name.
        devset: Examples, each with its inputs marked by `with_inputs`.
        metric: Called as `metric(example, prediction)`, also as a coroutine function. It returns a number, a bool, or a
            `dspy.Prediction` with a `score`. A score that is not finite is a failure of the metric, so that one of them
            does not make the whole result NaN. A metric that is a plain function runs on a thread of its own.
        failure_score: The score of an example that failed.
        display_table: Shows the examples, predictions and scores as a table, or the first so many of them, as
            `dspy.Evaluate` does. Needs pandas.
        journal: A file that keeps every prediction with its score, so that a second call with the same examples scores
            only those that have no score. It asks the program only about those that have no prediction either; a
            `dspy.Prediction` is kept beside the journal, as `run.predictions`, until all have scores, unless it has
            fields that JSON would not give back as they are. A prediction of an earlier call is a new `dspy.Prediction`
            of what the journal holds of its fields, which is JSON; a warning names fields that are lost. Its score is
            the one of that time. Another program or metric is refused, and a warning says if the code of either has
            changed.
        progress: As `process` takes it.
        stop: Ends the run when its `stop()` is called.
        options: The options of `map`, except those about the predictor's arguments.

    Returns:
        DSPy's `EvaluationResult`, with `answers` besides. An outcome's latency, usage and cost are those of the program
        and the metric together.

    Raises:
        UsageError: There is no example, or one has no inputs.
        MissingPackageError: DSPy is not installed, or pandas for a table.
        UnfinishedError: The run stopped before every example had its score, for example at `max_cost`. The error's
            attribute `answers` has the outcomes so far.
        BridgeError: Its other classes, as `map` raises them.
    """
    checked("evaluate", options, EvaluateOptions, ("failure_score", "display_table", "journal", "progress", "stop"))
    dspy = library("dspy", "tokio-asyncio-bridge[dspy]")
    if display_table:
        library("pandas")
    examples = list(devset)
    if not examples:
        raise UsageError("`devset` has no example")
    rows = [dict(example.items()) for example in examples]
    with _Scorer(program, metric, examples, journal, dspy, are_elsewhere=are_elsewhere(options)) as scorer:
        answers = _map.map(rows, scorer.module(), journal=journal, progress=progress, stop=stop, **options)
        if answers.stopped is not None:
            # A score of some of the examples would be taken for that of all.
            unfinished = UnfinishedError(f"not every example has its score: {answers.stopped}", called=True)
            unfinished.answers = answers  # type: ignore[attr-defined]
            raise unfinished
        found = [scorer.found(outcome, failure_score) for outcome in answers]
        scorer.is_complete = not answers.failed
    scorer.tell_of_losses()
    score = round(100 * sum(float(score) for _, score in found) / len(examples), 2)
    tuples = [(example, *result) for example, result in zip(examples, found, strict=True)]
    result: Any = importlib.import_module("dspy.evaluate.evaluate").EvaluationResult(score=score, results=tuples)
    result.answers = answers
    if display_table:
        _show_table(tuples, metric, display_table)
    return cast(Evaluation, result)


def _show_table(results: list[tuple[Any, Any, Any]], metric: Callable[..., Any], rows: bool | int) -> None:
    """Shows the results as DSPy does. These methods of DSPy are its own: where they fail, the results are not lost."""
    pandas, width = library("pandas"), "display.max_colwidth"
    name = _named(metric).__name__
    try:
        shows = importlib.import_module("dspy.evaluate.evaluate").Evaluate(devset=[])
        # In a notebook, DSPy sets this option for good.
        with pandas.option_context(width, pandas.get_option(width)):
            shows._display_result_table(shows._construct_result_table(results, name), rows, name)
    except Exception as error:
        LOG.warning(f"failed to display the table: {type(error).__name__}: {error}")


class _Scorer:
    """The program and its metric as one predictor."""

    def __init__(
        self,
        program: Callable[..., Any],
        metric: Callable[..., Any],
        examples: list[Any],
        journal: File | None,
        dspy: Any,
        *,
        are_elsewhere: bool,
    ) -> None:
        self.program = program
        self.metric = metric
        self.examples = examples
        self.dspy = dspy
        self.inputs = [_inputs(row, example) for row, example in enumerate(examples)]
        # Nothing of the examples has to cross: whoever makes the calls has them.
        self.takes_rows = not are_elsewhere or journal is not None
        self.scratch = None if self.takes_rows else TemporaryDirectory()
        if self.scratch is not None:
            journal = os.path.join(self.scratch.name, "run.journal")
        self.kept = None if journal is None else Predictions(journal, has_journal=self.scratch is None)
        self.is_copy = False
        self.begin()

    def begin(self) -> None:
        # The last attempt of each row. An earlier one, which was given up, may end after it.
        self.attempts: dict[int, object] = {}
        # Predictions that have no score yet.
        self.predictions: dict[int, Any] = {}
        # The answers of each row, of which the run took one at most.
        self.answers: dict[int, list[_Answer]] = {}
        # Fields that JSON could not hold, and the first row with each.
        self.lost: dict[str, int] = {}
        self.is_complete = False
        self.threads = ThreadPoolExecutor(max_workers=1000, thread_name_prefix="metric")

    def __getstate__(self) -> dict[str, Any]:
        """What another process needs to make the calls."""
        return {name: vars(self)[name] for name in ("program", "metric", "examples", "dspy", "inputs", "kept")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state, is_copy=True)
        self.begin()

    def __enter__(self) -> "_Scorer":
        return self

    def __exit__(self, *_: object) -> None:
        # A metric that hangs has been given up.
        self.threads.shutdown(wait=False, cancel_futures=True)
        if self.kept is not None:
            self.kept.close(remove=self.is_complete)
        if self.scratch is not None:
            self.scratch.cleanup()

    def module(self) -> Any:
        """A `dspy.Module`, so that the program's calls are metered and its prompts belong to the job."""
        scorer = self

        class Scored(self.dspy.Module):  # type: ignore[misc, name-defined]
            def __init__(self) -> None:
                super().__init__()
                self.program = scorer.program
                self.metric = scorer.metric

        async def aforward(self: Any, /, row_id: int, **row: Any) -> dict[str, Any]:
            attempt, prediction = scorer.begun(row_id)
            if prediction is None:
                acall = getattr(scorer.program, "acall", scorer.program)
                prediction = scorer.predicted(row_id, attempt, await acall(**scorer.inputs[row_id]))
            arguments = scorer.examples[row_id], prediction
            if _is_asynchronous(scorer.metric):
                score = getattr(scorer.metric, "acall", scorer.metric)(*arguments)
            else:
                run = contextvars.copy_context().run
                loop = asyncio.get_running_loop()
                score = await loop.run_in_executor(scorer.threads, run, scorer.metric, *arguments)
            return scorer.scored(row_id, prediction, await score if inspect.isawaitable(score) else score)

        def forward(self: Any, /, row_id: int, **row: Any) -> dict[str, Any]:
            attempt, prediction = scorer.begun(row_id)
            if prediction is None:
                prediction = scorer.predicted(row_id, attempt, scorer.program(**scorer.inputs[row_id]))
            score = scorer.metric(scorer.examples[row_id], prediction)
            if inspect.isawaitable(score):
                score = asyncio.run(_awaited(score))
            return scorer.scored(row_id, prediction, score)

        if not self.takes_rows:
            own = [inspect.Parameter("self", inspect.Parameter.POSITIONAL_ONLY)]
            row_id = inspect.Parameter("row_id", inspect.Parameter.POSITIONAL_OR_KEYWORD)
            for function in (aforward, forward):
                vars(function)["__signature__"] = inspect.Signature([*own, row_id])
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

    def begun(self, row: int) -> tuple[object, Any]:
        """Begins an attempt. Returns it, and the prediction of an earlier one that has no score yet, or None."""
        attempt = self.attempts[row] = object()
        return attempt, self.unscored(row)

    def unscored(self, row: int) -> Any:
        """The row's prediction that has no score yet, or None. It may be of an earlier call."""
        if row not in self.predictions and self.kept is not None:
            fields = self.kept.of(row)
            if fields is not None:
                self.predictions[row] = self.dspy.Prediction(**fields)
        return self.predictions.get(row)

    def predicted(self, row: int, attempt: object, prediction: Any) -> Any:
        """Keeps a prediction until it has its score, unless its attempt was given up meanwhile."""
        if self.attempts[row] is attempt:
            self.predictions[row] = prediction
            if self.kept is not None and type(prediction) is self.dspy.Prediction:
                self.kept.keep(row, dict(prediction.items()))
        return prediction

    def scored(self, row: int, prediction: Any, score: Any) -> dict[str, Any]:
        """The row's answer: the fields of its prediction, and its score as the last one."""
        try:
            number = float(score)
        except (TypeError, ValueError):
            raise TypeError(
                f"the metric returned a value of type {type(score).__name__}, which is no score\n"
                "hint: return a number, a bool, or a `dspy.Prediction` with a `score`"
            ) from None
        if not math.isfinite(number):
            raise ValueError(f"the metric returned {number}, which is no score\nhint: return a finite number")
        fields: dict[str, Any] = results().named(prediction)
        name = "score"
        while name in fields:
            name = f"metric_{name}"
        if self.kept is None:
            answer = _Answer({**fields, name: score})
        else:
            answer = _Answer({**_recordable(fields), name: _recordable_score(score)})
        if self.is_copy:
            # The score goes to another process, and nobody here asks for it.
            self.predictions.pop(row, None)
            return answer
        answer.result = prediction, score
        self.answers.setdefault(row, []).append(answer)
        return answer

    def found(self, outcome: Outcome, failure_score: float) -> tuple[Any, Any]:
        """The prediction and the score of a row."""
        if not outcome.ok:
            prediction = self.unscored(outcome.index)
            return self.dspy.Prediction() if prediction is None else prediction, failure_score
        if isinstance(outcome.answer, _Answer):
            return outcome.answer.result
        for answer in self.answers.get(outcome.index, ()):
            # With a journal, an outcome has the answer as it was recorded. That of another process is not here.
            if results().plain(answer) == outcome.answer:
                return answer.result
        return self.rebuilt(outcome, failure_score)

    def rebuilt(self, outcome: Outcome, failure_score: float) -> tuple[Any, Any]:
        """A prediction and its score of an earlier call or of another process, as the outcome holds them."""
        *fields, (_, score) = outcome.answer.items()
        prediction = self.dspy.Prediction(**self.held(outcome.index, dict(fields)))
        if isinstance(score, dict):
            score = self.dspy.Prediction(**self.held(outcome.index, score))
        try:
            float(score)
        except (TypeError, ValueError):
            # Journals of earlier versions have null for a score that was not finite.
            score = failure_score
        return prediction, score

    def held(self, row: int, fields: dict[str, Any]) -> dict[str, Any]:
        """The fields without those that the journal does not have."""
        held = {}
        for name, value in fields.items():
            if isinstance(value, dict) and [*value] == [_UNRECORDED]:
                self.lost.setdefault(name, row)
            else:
                held[name] = value
        return held

    def tell_of_losses(self) -> None:
        for name, row in self.lost.items():
            LOG.warning(
                f"predictions lack the field `{name}`, which JSON could not hold; the first is of example {row}"
            )


class _Answer(dict[str, Any]):
    """What is recorded of a row, with the prediction and the score as they are."""

    result: tuple[Any, Any]


def _recordable(fields: dict[str, Any]) -> dict[str, Any]:
    """The fields as JSON can have them: a value that it cannot hold must not cost the others."""
    return {name: value if _has_json(value) else {_UNRECORDED: type(value).__name__} for name, value in fields.items()}


def _recordable_score(score: Any) -> Any:
    """The score as JSON can have it."""
    if isinstance(score, (bool, int, float)):
        return score
    return _recordable(results().named(score)) if hasattr(score, "toDict") else float(score)


def _has_json(value: Any) -> bool:
    try:
        results().fields({"": value})
    except results().NotAnAnswer:
        return False
    return True


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
