"""How a run stands, and how that is shown: by a bar at a terminal, by one bar in a notebook, or by the caller."""

import importlib
import logging
import sys
from collections.abc import Callable
from dataclasses import dataclass, fields
from html import escape
from typing import Any, Literal, Protocol, TypeAlias

from tokio_asyncio_bridge import _native

_LOGGER = logging.getLogger("tokio_asyncio_bridge")
# Of a run that is shown by lines, in seconds: how long it says nothing, and how long it is silent between two lines.
_FIRST_LINE_S = 2.0
_EVERY_LINE_S = 10.0


@dataclass(frozen=True, slots=True)
class Progress:
    """How a run stands at a moment. Counts are of rows; those that earlier sessions answered are in `resumed` only.

    Attributes:
        total: Rows selected; 0 if it is not known how many there are.
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


ProgressCallback: TypeAlias = Callable[[Progress], object]
# `None` and "auto": a bar at a terminal and in a notebook, nothing elsewhere. `True`: lines elsewhere. `False`: never
# anything. A function is called with a `Progress` several times a second, on the thread that waits for the run.
ShowProgress: TypeAlias = bool | Literal["auto"] | ProgressCallback | None


class Display(Protocol):
    """Shows how a run stands. It has no thread: it is called by the one that waits for the run."""

    def show(self, progress: Progress, /) -> object:
        """Shows it in place of what was shown before."""

    def clear(self) -> None:
        """Makes room for a message, or for what follows the run."""


def display_of(option: ShowProgress) -> Display | None:
    """What `progress=` asks for, or None if nothing is to be shown.

    Raises:
        TypeError: It takes no such value.
    """
    if callable(option):
        return _Told(option)
    if option is False:
        return None
    if not (option is None or option is True or option == "auto"):
        raise TypeError(f'`progress=` takes True, False, "auto" or a function, not {option!r}')
    if _is_notebook():
        return _Notebook()
    if _is_terminal():
        return _native.Bar()
    return _Lines() if option is True else None


def _is_notebook() -> bool:
    """Whether this is a kernel, which has a front end that shows HTML."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return getattr(shell, "kernel", None) is not None


def _is_terminal() -> bool:
    """Whether standard error is a terminal, also for those who have replaced `sys.stderr`."""
    try:
        return sys.stderr.isatty() and sys.stderr.fileno() == 2
    except (AttributeError, OSError, ValueError):
        return False


class _Told:
    """The caller's own function. Once it has raised something, it is not called again."""

    def __init__(self, tell: ProgressCallback) -> None:
        self._tell: ProgressCallback | None = tell

    def show(self, progress: Progress, /) -> None:
        tell, self._tell = self._tell, None
        if tell is not None:
            tell(progress)
            self._tell = tell

    def clear(self) -> None:
        pass


class _Lines:
    """A line of text now and then on standard error, and one at the end."""

    def __init__(self) -> None:
        self._next = _FIRST_LINE_S

    def show(self, progress: Progress, /) -> None:
        ended = 0 < progress.total <= progress.done + progress.unfinished
        if progress.elapsed_s >= self._next or (ended and self._next < float("inf")):
            self._next = float("inf") if ended else progress.elapsed_s + _EVERY_LINE_S
            print(_native.figures(progress), file=sys.stderr, flush=True)

    def clear(self) -> None:
        pass


class _Notebook:
    """One bar in the output of the cell, drawn in place, which stays when the run has ended."""

    def __init__(self) -> None:
        self._put: Callable[[str, str], object] | None = None
        self._broken = False

    def show(self, progress: Progress, /) -> None:
        if self._broken:
            return
        text = _native.figures(progress)
        try:
            if self._put is None:
                self._put = _output(_bar(progress, text), text)
            else:
                self._put(_bar(progress, text), text)
        except Exception:
            # A front end that cannot show it must not end the run.
            self._broken = True
            _LOGGER.debug("the progress cannot be shown", exc_info=True)

    def clear(self) -> None:
        pass


def _bar(progress: Progress, text: str) -> str:
    """A bar and its figures as HTML."""
    bar = ""
    if progress.total:
        look = "width:14em;vertical-align:middle;margin-right:.8em"
        bar = f'<progress style="{look}" max="{progress.total}" value="{progress.done}"></progress>'
    return f'<div style="white-space:nowrap">{bar}<span>{escape(text)}</span></div>'


def _output(html: str, text: str) -> Callable[[str, str], object]:
    """Shows a text in the output of the cell, and returns what puts others in its place.

    A widget's changes are not saved in the notebook. Without ipywidgets, the front end replaces what it shows.
    """
    display: Any = importlib.import_module("IPython.display").display
    try:
        widgets: Any = importlib.import_module("ipywidgets")
    except ImportError:
        handle: Any = display({"text/html": html, "text/plain": text}, raw=True, display_id=True)
        return lambda html, text: handle.update({"text/html": html, "text/plain": text}, raw=True)
    widget = widgets.HTML(value=html)
    display(widget)
    return lambda html, text: setattr(widget, "value", html)
