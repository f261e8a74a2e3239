"""Runs plain functions on threads, one for each call in flight, so that no hidden pool size caps the concurrency."""

import asyncio
import contextlib
import contextvars
import queue
import threading
from collections.abc import Callable
from typing import Any

from _tokio_asyncio_bridge import forks

_Work = Callable[[], None]


class Threads:
    """Reuses idle threads, and starts a new one if none is idle.

    The engine bounds the calls in flight, and thereby the threads: one for each permit, and one for each abandoned
    call, whose thread nothing can stop. They are daemons, so that such a thread cannot keep the process from ending.
    """

    def __init__(self) -> None:
        self._work: queue.SimpleQueue[_Work | None] = queue.SimpleQueue()
        self._idle = threading.Semaphore(0)
        # Whether no job is left, and a thread that becomes idle ends.
        self._dismissed = False

    def _serve(self) -> None:
        while (work := self._work.get()) is not None:
            work()
            del work
            self._idle.release()
            if self._dismissed and self._idle.acquire(blocking=False):
                return

    def _submit(self, work: _Work) -> None:
        self._dismissed = False
        # The thread comes first: if none can be started, this raises, and the call has failed without ever running.
        if not self._idle.acquire(blocking=False):
            threading.Thread(target=self._serve, name="predictor", daemon=True).start()
        self._work.put(work)

    def dismiss(self) -> None:
        """Ends the idle threads, and those of abandoned calls when these end: no job is left."""
        self._dismissed = True
        while self._idle.acquire(blocking=False):
            self._work.put(None)

    def renew(self) -> None:
        """Forgets all threads in a forked child, which has none of them."""
        self.__init__()  # type: ignore[misc]

    async def run(self, call: Any, target: Callable[..., Any], arguments: dict[str, Any]) -> Any:
        """Awaits `target(**arguments)`. On the thread, `call` is told when the function begins and ends."""
        loop = asyncio.get_running_loop()
        future = loop.create_future()
        context = contextvars.copy_context()
        # Whoever comes first takes this lock: the thread that begins the call, or the cancellation. So a call that was
        # reported failed never begins later.
        taken = threading.Lock()

        def settle(value: Any, error: BaseException | None) -> None:
            if future.cancelled():
                return
            if error is None:
                future.set_result(value)
            else:
                plain = isinstance(error, Exception) and not isinstance(error, StopIteration)
                future.set_exception(error if plain else _Escaped(error))

        def work(call: Any = call) -> None:
            value: Any = None
            failed: BaseException | None = None
            if not taken.acquire(blocking=False):
                return
            call.begin()
            try:
                value = context.run(forks.run, target, **arguments)
            except BaseException as error:
                failed = error
            call.end()
            del call
            # The loop is closed if the call was abandoned and the run is over.
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(settle, value, failed)

        self._submit(work)
        del work, call
        try:
            value = await future
        except asyncio.CancelledError:
            taken.acquire(blocking=False)
            raise
        except _Escaped as escaped:
            raise escaped.error from None
        return await value if asyncio.iscoroutine(value) or asyncio.isfuture(value) else value


class _Escaped(Exception):
    """Carries a `SystemExit`, `KeyboardInterrupt` or `StopIteration` through a future, which accepts none of them."""

    def __init__(self, error: BaseException) -> None:
        self.error = error
