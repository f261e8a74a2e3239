"""Answers rows one after the other as they come, within a running event loop."""

import asyncio
import inspect
import json
import time
from collections.abc import AsyncGenerator, AsyncIterable, Iterable, Iterator, Sized
from typing import Any, Unpack

from tokio_asyncio_bridge._drive import Telling
from tokio_asyncio_bridge._errors import BrokenError, UnfinishedError
from tokio_asyncio_bridge._native import Given, Outcome, Session
from tokio_asyncio_bridge._options import MapOptions, Words, checked, words
from tokio_asyncio_bridge._predictor import Predictor, given
from tokio_asyncio_bridge._progress import Display, ShowProgress, display_of
from tokio_asyncio_bridge._tables import Rows, Source

# The most rows that are in hand: read, and their outcomes not taken yet.
_MOST = 8192
# How often other tasks of the loop have their turn while outcomes are at hand.
_TURN = 256
# How often the progress is shown, in seconds.
_SHOWN_S = 0.1
# How long an iterable may be read before other tasks have their turn, in seconds.
_READ_S = 0.005
# How often it is looked whether anything of the run is left, in seconds.
_CLEARED_S = 0.001


def stream(
    rows: Rows | AsyncIterable[Any],
    predictor: Predictor,
    *,
    ordered: bool = False,
    progress: ShowProgress = False,
    **options: Unpack[MapOptions],
) -> AsyncGenerator[Outcome, None]:
    """Answers rows while they come, and yields each outcome when its row is answered or has failed for good.

    Rows are read as they are needed: twice as many as calls may be in flight at first, and up to 8,192 where the calls
    are so short that they would wait for rows. A row counts until its outcome is taken, so a slow consumer holds rows
    back. The predictor runs on an event loop of its own, on another thread: it cannot use what belongs to the loop of
    the caller, such as an `aiohttp.ClientSession` that was made there. Context variables are those of the caller. With
    `workers=`, other processes make the calls: see `map`.

    If the loop over the outcomes is left early (`break`, an exception, cancellation), the calls in flight are
    cancelled, and a generator that gave the rows is closed. To wait for that after a `break`, use
    `contextlib.aclosing`.

    Args:
        rows: The rows, from an iterable, an async iterable, or a table as `map` takes it. A mapping gives the arguments
            by their names; any other value is the one argument. A plain iterable or a table is read on the caller's
            loop, which waits for it.
        predictor: What answers a row: `path/to/file.py:name`, `package.module:name`, `dspy`, a callable or a
            `dspy.Module`.
        ordered: Yield the outcomes in the order of the rows.
        progress: As `process` takes it, but nothing is shown unless it is asked for: whoever takes the outcomes may
            print them.
        options: The options of `map`.

    Yields:
        The outcomes.

    Raises:
        TypeError: There is no such option, or its value is of the wrong type.
        UsageError: An option's value does not fit, or the rows are a text or a single mapping.
        MissingPackageError: The package that reads the table is not installed.
        PredictorError: The predictor cannot be loaded.
        ClusterError: The Ray cluster is not there, or has no room before `deadline`.
        UnfinishedError: The run stopped before every row had its outcome, for example because of a budget. All outcomes
            that there are have been yielded.
        BrokenError: The run was broken off. All outcomes that there are have been yielded.
    """
    taken = checked("stream", options, MapOptions, ("predictor", "ordered", "progress"))
    given_rows = rows if isinstance(rows, AsyncIterable) else Source(rows).rows()
    spec, target = given(predictor)
    return _Stream(given_rows, target, ordered, display_of(progress), words({**spec, **taken})).outcomes()


class _Stream:
    """One run: a task hands rows in, and a generator takes outcomes out."""

    def __init__(
        self,
        rows: Iterable[Any] | AsyncIterable[Any],
        predictor: Given | None,
        ordered: bool,
        display: Display | None,
        options: Words,
    ) -> None:
        self._rows = rows
        self._predictor = predictor
        self._options = options
        self._ordered = ordered
        self._display = display
        # Rows handed in whose outcomes have not been taken, and how many there may be.
        self._in_hand = 0
        self._window = 0
        self._is_left = False
        self._room = asyncio.Event()
        self._bell = asyncio.Event()

    async def outcomes(self) -> AsyncGenerator[Outcome, None]:
        """Starts the run, yields the outcomes, and ends the run."""
        loop = asyncio.get_running_loop()
        total = len(self._rows) if isinstance(self._rows, Sized) else 0
        session = Session(self._predictor, self._options, total=total, wakes=True)
        self._session = session
        self._telling = Telling(session.run, self._display)
        loop.add_reader(session.fileno(), self._ring)
        feeding: asyncio.Task[None] | None = None
        showing = asyncio.create_task(self._show())
        try:
            while not session.ready(0.0) and not session.has_ended():
                await self._heard()
            if not session.ready(0.0):
                await self._finish()
            self._window = 2 * session.calls()
            feeding = asyncio.create_task(self._feed())
            held, following, turn = dict[int, Outcome](), 0, 0
            ended = False
            while not ended:
                ended = session.has_ended()
                outcomes = session.take()
                if self._ordered:
                    held.update((outcome.index, outcome) for outcome in outcomes)
                    outcomes = []
                    while (outcome := held.pop(following, None)) is not None:
                        outcomes.append(outcome)
                        following += 1
                    if ended:
                        # Rows before these have no outcome.
                        outcomes += [held[index] for index in sorted(held)]
                self._widen()
                if showing.done():
                    # What the caller's function raised.
                    showing.result()
                for outcome in outcomes:
                    self._in_hand -= 1
                    if self._in_hand < self._window:
                        self._room.set()
                    yield outcome
                    turn += 1
                    if turn % _TURN == 0:
                        await asyncio.sleep(0)
                if not outcomes and not ended:
                    await self._heard()
            await self._finish()
            self._telling.progress()
            await feeding
        finally:
            # A forked process would take the reader out of its parent's loop, too.
            if not session.run.is_forked():
                try:
                    await self._leave(showing, feeding)
                finally:
                    loop.remove_reader(session.fileno())
                    self._telling.clear()

    async def _show(self) -> None:
        """Shows the progress until it is cancelled."""
        try:
            while self._display is not None:
                self._telling.progress()
                await asyncio.sleep(_SHOWN_S)
        finally:
            self._bell.set()

    def _widen(self) -> None:
        """Makes room for more rows if the calls wait for them although no row is held back elsewhere."""
        if self._in_hand >= self._window and self._session.was_short():
            self._window = max(self._window, min(2 * self._window, _MOST))

    async def _feed(self) -> None:
        """Hands rows in while there is room for them."""
        session = self._session
        try:
            if isinstance(self._rows, AsyncIterable):
                await self._feed_async(self._rows)
            else:
                await self._feed_sync(iter(self._rows))
        finally:
            session.close()
            # Whoever waits for outcomes may be in a forked process, where none come.
            self._bell.set()

    async def _feed_sync(self, rows: Iterator[Any]) -> None:
        while True:
            await self._space()
            lot: list[Any] = []
            most, until = self._window - self._in_hand, time.monotonic() + _READ_S
            try:
                for row in rows:
                    lot.append(row)
                    if len(lot) >= most or time.monotonic() > until:
                        break
                else:
                    return
            finally:
                self._put(lot)
            await asyncio.sleep(0)

    async def _feed_async(self, rows: AsyncIterable[Any]) -> None:
        loop = asyncio.get_running_loop()
        lot: list[Any] = []

        def put() -> None:
            self._put(lot.copy())
            lot.clear()

        try:
            async for row in rows:
                lot.append(row)
                if len(lot) == 1:
                    # Those that come in the same turn go together.
                    loop.call_soon(put)
                if self._in_hand + len(lot) >= self._window:
                    put()
                    await self._space()
        finally:
            put()

    def _put(self, lot: list[Any]) -> None:
        if lot:
            self._in_hand += len(lot)
            self._session.put(lot)

    async def _space(self) -> None:
        """Waits until there is room for a row."""
        while self._in_hand >= self._window:
            self._room.clear()
            await self._room.wait()

    def _ring(self) -> None:
        self._session.heard()
        self._bell.set()
        if not self._is_left:
            self._telling.messages()

    async def _heard(self) -> None:
        await self._bell.wait()
        self._bell.clear()

    async def _finish(self) -> None:
        """Waits until nothing of the run is left, and raises what ended it early."""
        run = self._session.run
        while not run.wait(0.0):
            self._telling.messages()
            await asyncio.sleep(_CLEARED_S)
        self._telling.messages()
        told = json.loads(run.result())
        if told["code"] == 1:
            raise BrokenError(told["stop"], called=True)
        if told["stop"] is not None:
            raise UnfinishedError(told["stop"], called=True)

    async def _leave(self, *tasks: "asyncio.Task[None] | None") -> None:
        """Ends everything that is left, and waits for it."""
        run = self._session.run
        if not run.wait(0.0):
            # That it ends is no news to whoever left it.
            self._is_left = True
            run.kill()
        left = [task for task in tasks if task is not None]
        for task in left:
            task.cancel()
        try:
            await asyncio.wait(left)
            if inspect.isasyncgen(self._rows):
                await self._rows.aclose()
            elif inspect.isgenerator(self._rows):
                self._rows.close()
        finally:
            while not run.wait(0.0):
                await asyncio.sleep(_CLEARED_S)
