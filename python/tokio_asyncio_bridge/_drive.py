"""Waits for a run on the caller's thread: passes on messages and progress, and ends the run when it is asked to."""

import json
import logging
import threading
import time
from collections.abc import Callable
from typing import Any, Literal, Protocol, TypeVar

from tokio_asyncio_bridge._errors import StoppedError, in_python
from tokio_asyncio_bridge._progress import Display, Progress

_LOGGER = logging.getLogger("tokio_asyncio_bridge")
_LEVELS = {"note": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}
# How long the waiting thread waits before it looks for signals, in seconds. `map` takes its outcomes then, too: every
# 50 ms it was up to an eighth slower, for what they are made of had left the cache by then.
_TURN_S = 0.01
# How long a run that is to end at once may take, in seconds. A disk that hangs must not hold its caller for ever.
_AT_ONCE_S = 10.0

_T = TypeVar("_T")


class Driven(Protocol):
    """What can be waited for: a `Run`, or something that does more while it waits."""

    def wait(self, seconds: float, /) -> bool: ...
    def stop(self) -> None: ...
    def kill(self) -> None: ...
    def standing(self) -> str | None: ...
    def messages(self) -> list[tuple[Literal["note", "warning", "error"], str]]: ...
    def result(self) -> str: ...


class Stop:
    """Ends runs from any thread. Give it to a run as `stop=`, and to several runs if they are to end together.

    The first `stop()` ends a run as Ctrl-C does: no further calls are made, calls in flight have the grace period to
    end, and the answers and the report are written. The second ends it at once; what was recorded is safe in the
    journal. A `Stop` that was used stays used: a run that is given it then makes no call and raises `StoppedError`.
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


def refuse_stopped(stop: Stop | None) -> None:
    """Raises StoppedError if `stop()` was called already. Nothing of a run is to be started then."""
    if stop is not None and stop.requests:
        raise StoppedError("the job was stopped before its first call")


def drive(run: Driven, made: Callable[[dict[str, Any]], _T], stop: Stop | None, display: Display | None) -> _T:
    """Waits for the end of a run and returns what `made` makes of its result. Raises the run's error if it failed.

    The first exception that comes meanwhile, such as KeyboardInterrupt, stops the run, and the second ends it at once.
    Then the first is raised. Its attribute `report` is what was made of the result, or None.
    """
    telling = Telling(run, display)
    waiting = _Waiting(run, stop, telling)
    raised: BaseException | None = None
    while True:
        try:
            while not waiting.turn():
                pass
            break
        except BaseException as error:
            waiting.end()
            if raised is None:
                raised = error
    telling.clear()
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


class Telling:
    """Passes on what a run tells: its messages to `logging`, and its progress to what shows it."""

    def __init__(self, run: Driven, display: Display | None) -> None:
        self._run = run
        self._display = display
        self._shown: str | None = None

    def messages(self) -> None:
        """Passes on the messages since the last time."""
        messages = self._run.messages()
        if messages:
            self.clear()
        for level, text in messages:
            _LOGGER.log(_LEVELS[level], "%s", in_python(text))

    def progress(self) -> None:
        """Shows how the run stands, if that has changed."""
        if self._display is None:
            return
        standing = self._run.standing()
        if standing is not None and standing != self._shown:
            self._shown = standing
            self._display.show(Progress.of(json.loads(standing)))

    def clear(self) -> None:
        """Removes what shows the progress at a terminal, until it is shown again."""
        if self._display is not None:
            self._display.clear()


class _Waiting:
    """A run that is waited for."""

    def __init__(self, run: Driven, stop: Stop | None, telling: Telling) -> None:
        self._run = run
        self._stop = stop
        self._telling = telling
        self._taken = 0
        self._asked = 0
        self._until = float("inf")

    def turn(self) -> bool:
        """Waits a moment, and returns whether the run has ended or is given up."""
        self._obey()
        ended = self._run.wait(_TURN_S)
        self._obey()
        self._telling.messages()
        self._telling.progress()
        return ended or time.monotonic() > self._until

    def _obey(self) -> None:
        """Does what `stop` has asked for since the last time."""
        while self._stop is not None and self._taken < self._stop.requests:
            self._taken += 1
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
