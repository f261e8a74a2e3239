"""Answers rows in memory: rows in, outcomes out, in the rows' order."""

import time
from collections.abc import Iterable, Iterator, Sized
from itertools import chain
from typing import Any, Unpack

from tokio_asyncio_bridge._answers import Answers
from tokio_asyncio_bridge._drive import Stop, drive, refuse_stopped
from tokio_asyncio_bridge._errors import BrokenError, RowError, UsageError, in_python
from tokio_asyncio_bridge._journal import answered
from tokio_asyncio_bridge._native import Outcome, Session
from tokio_asyncio_bridge._options import File, JournalOptions, MapOptions, Words, checked, words
from tokio_asyncio_bridge._predictor import Predictor, given
from tokio_asyncio_bridge._progress import Display, ShowProgress, display_of
from tokio_asyncio_bridge._tables import Rows, Source, are_at_hand

# Rows that are handed in together. The calls of the first begin while the next are being handed in.
_LOT = 8192
# How long rows may be gathered before those that have come are handed in, in seconds.
_SOON_S = 0.01
# Rows that may be handed in beyond the last one with an outcome, so that an endless iterable is not read without bound.
# They are more than are answered while `drive` waits once, so calls do not wait for rows.
_AHEAD = 65_536


def map(
    rows: Rows,
    predictor: Predictor,
    *,
    journal: File | None = None,
    progress: ShowProgress = None,
    stop: Stop | None = None,
    **options: Unpack[JournalOptions],
) -> Answers:
    """Answers rows in memory, and returns the outcomes in the rows' order.

    An outcome has the same row object that you gave and the same object that the predictor returned. The predictor runs
    on an event loop of its own, on another thread, so a call works in a notebook too, whose own loop runs. It cannot
    use what belongs to the caller's loop.

    Without a journal nothing is written down. Every answer there is reaches the caller, however the run ends:

    * If something stops the run, such as `max_failures`, a budget or `stop`, `Answers.stopped` says why. The rows that
      were not answered have an error of the kind `unfinished`. A list, a tuple, a range or a table has an outcome for
      each row. Any other iterable is read no further then, and `len(answers)` is the number of rows that were read.
    * Whatever is raised once the predictor is loaded, KeyboardInterrupt included, has the outcomes so far as its
      attribute `outcomes`. The first Ctrl-C lets calls in flight go on for `grace`, the second cancels them.

    With `journal="run.journal"` the run is a job as that of `process`, and survives the process: every outcome is
    recorded in that file, and a later call with the same rows, or with more rows after them, asks only what has no
    answer. The rows are read to their end first, and kept in JSON as `run.input` until every one is answered. The
    answers are also written to `run`, with a report beside them, and at a shell `tokio-asyncio-bridge resume run`
    continues the run. Each row is a mapping of values that JSON can hold. An answer is what the journal holds, in
    JSON's types: the text or value that was returned, or a dictionary of the fields. The value of a field `answer` that
    is the only one stands for the dictionary.

    With `workers=2` other processes make the calls, and get a copy of the predictor. Answers are then as with a
    journal, and a row whose arguments JSON cannot hold fails, with an error of the kind `input`. An outcome still has
    the very row that was given.

    Args:
        rows: The rows, from any iterable, or a table: of pandas, of polars, a dataset of Hugging Face, or anything with
            `__arrow_c_stream__`. A mapping gives the arguments by their names: keys that the predictor does not take
            are passed over. Any other value is the one argument. An iterable is read while calls are made, up to
            65,536 rows (or twice the calls in flight) beyond the last one with an outcome. All rows and outcomes are
            kept to the end, so `stream` is the function for rows without end.
        predictor: What answers a row: `path/to/file.py:name`, `package.module:name`, `dspy`, a callable or a
            `dspy.Module`.
        journal: Where every outcome is recorded. The other files of the job have its name without `.journal`.
        progress: As `process` takes it.
        stop: Ends the run when its `stop()` is called. If that was before, no call is made.
        options: The options of the command line about the predictor and its calls, under their own names; with a
            journal, also `force`, `skip_failed`, `allow_changed`, and those about the answers file.

    Returns:
        An outcome for each row, in the rows' order.

    Raises:
        TypeError: There is no such option, or its value is of the wrong type.
        UsageError: An option's value does not fit.
        PredictorError: The predictor cannot be loaded.
        ClusterError: The Ray cluster is not there, or has no room before `deadline`.
        BrokenError: The run was broken off, for example because the event loop was stopped.
        InputError, OutputError, JournalError, ChangedError: With a journal, the run cannot begin. Values that JSON
            cannot hold, and rows that are not those of the journal, are named.
        StoppedError: `stop` ended the run before its first call, or at once.
    """
    taken = checked("map", options, JournalOptions, ("predictor", "journal", "progress", "stop"))
    source, display = Source(rows), display_of(progress)
    if journal is not None:
        outcomes, report = answered(source.rows(), predictor, journal, display, stop, taken)
        return Answers(outcomes, source, report.stopped if report is not None else None, report)
    for name in taken.keys() - MapOptions.__annotations__.keys():
        raise UsageError(f"`{name}=` is about the files of a job, and without `journal=` there are none")
    outcomes, stopped = outcomes_of(source.rows(), predictor, display, stop, words(taken))
    return Answers(outcomes, source, stopped)


def outcomes_of(
    rows: Iterable[Any],
    predictor: Predictor,
    display: Display | None,
    stop: Stop | None,
    options: Words,
) -> tuple[list[Outcome], str | None]:
    """The outcome of each row, in the rows' order, and why the run stopped early, if it did.

    A row that the run did not finish has an outcome with an error of the kind `unfinished`, if it was read or is at
    hand. Whatever is raised once the predictor is loaded has the outcomes so far as its attribute `outcomes`.
    """
    refuse_stopped(stop)
    total = len(rows) if isinstance(rows, Sized) else 0
    spec, target = given(predictor)
    pump = _Pump(Session(target, [*words(spec), *options], total=total, wakes=False), rows)
    told: dict[str, Any] = {}
    try:
        # There is no report, so the attribute `report` of what is raised is None.
        drive(pump, told.update, stop, display)
        if told["code"] == 1:
            raise BrokenError(told["stop"], called=True)
        return pump.all(), told["stop"] and in_python(told["stop"])
    except BaseException as error:
        error.outcomes = pump.finished()  # type: ignore[attr-defined]
        raise


class _Pump:
    """A run that `drive` can wait for, and that hands rows in and takes outcomes out meanwhile."""

    def __init__(self, session: Session, rows: Iterable[Any]) -> None:
        self._run = run = session.run
        self.standing, self.messages, self.result = run.standing, run.messages, run.result
        self._session = session
        self._rows: Iterator[list[Any]] | None = _lots(rows)
        self._are_at_hand = are_at_hand(rows)
        self._is_stopped = False
        self._handed_in = 0
        self._outcomes: list[Outcome | None] = []

    def wait(self, seconds: float) -> bool:
        """Goes on for at most so many seconds, and returns whether the run has ended."""
        until = time.monotonic() + seconds
        if not self._session.ready(seconds):
            # A run that was stopped while its predictor loads is not ready, and not cleared away yet.
            return self._run.wait(max(0.0, until - time.monotonic()))
        while self._wants_rows() and time.monotonic() < until:
            self._hand_in()
        ended = self._run.wait(max(0.0, until - time.monotonic()))
        self._session.place(self._outcomes)
        return ended

    def stop(self) -> None:
        """Stops the run. No further row is read."""
        self._is_stopped = True
        self._run.stop()

    def kill(self) -> None:
        """Ends the run at once. No further row is read."""
        self._is_stopped = True
        self._run.kill()

    def _wants_rows(self) -> bool:
        if self._rows is None or self._is_stopped or self._session.has_ended():
            return False
        return self._handed_in - len(self._outcomes) < max(_AHEAD, 2 * self._session.calls())

    def _hand_in(self) -> None:
        rows, self._rows = self._rows, None
        try:
            lot = next(rows, None) if rows is not None else None
        except BaseException:
            self._session.close()
            raise
        if lot is None:
            self._session.close()
        else:
            self._session.put(lot)
            self._handed_in += len(lot)
            self._rows = rows

    def finished(self) -> list[Outcome]:
        """The outcomes of the rows that have one."""
        self._session.place(self._outcomes)
        return [outcome for outcome in self._outcomes if outcome is not None]

    def all(self) -> list[Outcome]:
        """The outcomes of all rows that were read or are at hand, also of those that were left unfinished."""
        outcomes = self._outcomes
        outcomes += [None] * (self._handed_in - len(outcomes))
        for outcome in self._session.unfinished():
            outcomes[outcome.index] = outcome
        if self._are_at_hand and self._rows is not None:
            outcomes += [
                _unasked(index, row) for index, row in enumerate(chain.from_iterable(self._rows), self._handed_in)
            ]
        return outcomes  # type: ignore[return-value]


def _unasked(index: int, row: Any) -> Outcome:
    """The outcome of a row that was not handed in."""
    error = RowError("the run stopped before the row was answered", kind="unfinished", called=False)
    return Outcome(index=index, row=row, error=error)


def _lots(rows: Iterable[Any]) -> Iterator[list[Any]]:
    """Rows in lists: those that come soon, together."""
    if isinstance(rows, (list, tuple)):
        for start in range(0, len(rows), _LOT):
            yield list(rows[start : start + _LOT])
        return
    lot: list[Any] = []
    soon = time.monotonic() + _SOON_S
    for row in rows:
        lot.append(row)
        if len(lot) == _LOT or time.monotonic() > soon:
            yield lot
            lot = []
            soon = time.monotonic() + _SOON_S
    if lot:
        yield lot
