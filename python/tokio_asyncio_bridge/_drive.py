"""Waits for a run on the caller's thread: passes on messages and progress, and ends the run when it is asked to."""

import json
import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any, Literal, Protocol, TypeAlias, TypeVar

from tokio_asyncio_bridge._errors import StoppedError, in_python

_LOGGER = logging.getLogger("tokio_asyncio_bridge")
_LEVELS = {"note": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}
# How often the waiting thread looks for signals, in seconds.
_TURN_S = 0.1
# How long a run that is to end at once may take, in seconds. A disk that hangs must not hold its caller for ever.
_AT_ONCE_S = 10.0

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Progress:
    """How a run stands at a moment. Counts are of rows; those that earlier sessions answered are in `resumed` only.

    Attributes:
        total: Rows selected.
        done: Rows with an outcome, those of earlier sessions included.
        resumed: Rows that earlier sessions answered.
        ok: Rows answered in this session.
        failed: Rows that failed for good in this session.
        unfinished: Rows left without an outcome because the run is stopping.
        in_flight: Rows whose call is in flight.
        waiting_retry: Rows that wait to be tried again.
        abandoned: Calls that ignored their cancellation and still run.
        cost_usd: US dollars that the whole job has cost; `None` where no price is known.
        elapsed_s: Seconds since the session's first call.
        eta_s: Seconds that the remaining rows will take at this pace; `None` before the first outcome.
        rows_per_s: The present pace, smoothed.
        limited_by: What holds the pace below the concurrency: `rpm`, `tpm`, `server` or `outage`.
    """

    total: int
    done: int
    resumed: int
    ok: int
    failed: int
    unfinished: int
    in_flight: int
    waiting_retry: int
    abandoned: int
    cost_usd: float | None
    elapsed_s: float
    eta_s: float | None
    rows_per_s: float
    limited_by: str | None

    @classmethod
    def of(cls, known: dict[str, Any]) -> "Progress":
        """Reads what a run says of itself."""
        return cls(**{field.name: known[field.name] for field in fields(cls)})


class Driven(Protocol):
    """What can be waited for: a `Run`, or something that does more while it waits."""

    def wait(self, seconds: float, /) -> bool: ...
    def stop(self) -> None: ...
    def kill(self) -> None: ...
    def standing(self) -> str | None: ...
    def messages(self) -> list[tuple[Literal["note", "warning", "error"], str]]: ...
    def result(self) -> str: ...


ProgressCallback: TypeAlias = Callable[[Progress], object]


class Stop:
    """Ends runs from any thread. Give it to a run as `stop=`, and to several runs if they are to end together.

    The first `stop()` ends a run as Ctrl-C does: no further calls are made, calls in flight have the grace period to
    end, and the answers and the report are written. The second ends it at once; what was recorded is safe in the
    journal.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._requests = 0

    def stop(self) -> None:
        """Asks the runs to stop, or to end at once if they were asked before."""
        with self._lock:
            self._requests += 1

    @property
    def requests(self) -> int:
        """How often `stop()` was called."""
        return self._requests


def drive(
    run: Driven, made: Callable[[dict[str, Any]], _T], stop: Stop | None, progress: ProgressCallback | None
) -> _T:
    """Waits for the end of a run and returns what `made` makes of its result. Raises the run's error if it failed.

    The first exception that comes meanwhile, such as KeyboardInterrupt, stops the run, and the second ends it at once.
    Then the first is raised. Its attribute `report` is what was made of the result, or None.
    """
    waiting = _Waiting(run, stop, progress)
    raised: BaseException | None = None
    while True:
        try:
            while not waiting.turn():
                pass
            break
        except BaseException as error:
            waiting.failed()
            if raised is None:
                raised = error
    if raised is None:
        return made(waiting.result())
    try:
        raised.report = None  # type: ignore[attr-defined]
        raised.report = made(waiting.result())  # type: ignore[attr-defined]
    except StoppedError as stopped:
        raised.report = stopped.report  # type: ignore[attr-defined]
    except Exception as error:
        raised.add_note(f"the run failed besides: {error}")
    try:
        raise raised
    finally:
        # The traceback holds this frame.
        del raised


def log(run: Driven) -> None:
    """Passes on what a run has told."""
    for level, text in run.messages():
        _LOGGER.log(_LEVELS[level], "%s", in_python(text))


class _Waiting:
    """A run that is waited for."""

    def __init__(self, run: Driven, stop: Stop | None, progress: ProgressCallback | None) -> None:
        self._run = run
        self._stop = stop
        self._progress = progress
        self._shown: str | None = None
        self._taken = 0
        self._asked = 0
        self._until = float("inf")

    def turn(self) -> bool:
        """Waits a moment, and returns whether the run has ended or is given up."""
        ended = self._run.wait(_TURN_S)
        while self._stop is not None and self._taken < self._stop.requests:
            self._taken += 1
            self.end()
        log(self._run)
        if self._progress is not None:
            standing = self._run.standing()
            if standing is not None and standing != self._shown:
                self._shown = standing
                self._progress(Progress.of(json.loads(standing)))
        return ended or time.monotonic() > self._until

    def failed(self) -> None:
        """Ends the run for an exception that came while it was waited for. Progress is not shown any more."""
        self._progress = None
        self.end()

    def end(self) -> None:
        """Stops the run; a second time, ends it at once; a third time, waits no longer."""
        self._asked += 1
        if self._asked == 1:
            self._run.stop()
        elif self._asked == 2:
            self._until = time.monotonic() + _AT_ONCE_S
            self._run.kill()
        else:
            self._until = 0.0

    def result(self) -> dict[str, Any]:
        """The result of the run. Raises its error if it failed."""
        if not self._run.wait(0.0):
            raise StoppedError("the run was told to end at once, and something holds it up; it is left alone")
        result: dict[str, Any] = json.loads(self._run.result())
        return result
