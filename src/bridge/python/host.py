"""Runs on the event loop's thread around the predictor's calls: the loop, the tasks of calls, the end of Python."""

import asyncio
import atexit
import contextlib
import logging
import os
import sys
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from _tokio_asyncio_bridge import brought, forks, is_guest, printed, signals, touched, variables
from _tokio_asyncio_bridge.threads import Threads

_PATIENCE_S = 1.0


def new_loop(kind: str) -> tuple[asyncio.AbstractEventLoop, str]:
    """Makes a loop of the kind asked for, and returns it with its name. `auto` takes uvloop if it can be imported."""
    if kind in ("auto", "uvloop"):
        try:
            import uvloop
        except ImportError:
            if kind == "uvloop":
                raise
        else:
            return _watched(uvloop.new_event_loop()), "uvloop"
    return _watched(asyncio.new_event_loop()), "asyncio"


def _watched(loop: asyncio.AbstractEventLoop) -> asyncio.AbstractEventLoop:
    touched.enter()
    # LiteLLM downloads its price table at import unless this is set, also if a user's own file imports it.
    if "LITELLM_LOCAL_MODEL_COST_MAP" not in os.environ:
        touched.variable("LITELLM_LOCAL_MODEL_COST_MAP", "True")
    if is_guest and touched.first("prints"):
        printed.veil()
        touched.undo_by(printed.unveil)
    forks.watch_loop(loop)
    asyncio.set_event_loop(loop)
    return loop


# What is to be done before each loop is closed.
_at_end: dict[asyncio.AbstractEventLoop, list[Callable[[], None]]] = {}


def at_end(loop: asyncio.AbstractEventLoop, work: Callable[[], None]) -> None:
    """Has `work` done when all that ran on the loop has ended, before it is closed."""
    _at_end.setdefault(loop, []).append(work)


def widen(loop: asyncio.AbstractEventLoop, calls: int) -> None:
    """Gives `asyncio.to_thread` and the like enough threads for all calls; by itself asyncio has a few for each core.

    As many again are for functions that run on after their calls timed out. Threads are started only as needed.
    """
    loop.set_default_executor(_Executor(max(32, 2 * calls), thread_name_prefix="asyncio"))


class _Executor(ThreadPoolExecutor):
    """Ends a forked child when the work that forked it is done."""

    def submit(self, fn: Callable[..., Any], /, *arguments: Any, **named: Any) -> Any:
        return super().submit(forks.run, fn, *arguments, **named)

    def _adjust_thread_count(self) -> None:
        # The work is queued by now. If no thread can be started, it waits for one of the others. If there are none, it
        # is taken back: the error is reported as the failure of a call, and that call must not run later.
        try:
            super()._adjust_thread_count()
        except Exception:
            if not self._threads:
                self._work_queue.get_nowait()
                raise


# Each `drive` function is the body of one call's task. It catches everything that leaves the predictor, including
# `SystemExit` and `KeyboardInterrupt`: raised through a task, they would end the loop, and every other call with it.


async def drive(call: Any, target: Callable[..., Any], arguments: dict[str, Any]) -> None:
    """Makes one call of an async function."""
    call.begin()
    try:
        value = await target(**arguments)
    except BaseException as error:
        forks.end_if_child(error)
        call.fail(error)
    else:
        forks.end_if_child()
        call.finish(value)


async def drive_stream(call: Any, target: Callable[..., Any], arguments: dict[str, Any]) -> None:
    """Makes one call of an async generator."""
    call.begin()
    try:
        value = await target(on_first_chunk=call.first_chunk, **arguments)
    except BaseException as error:
        forks.end_if_child(error)
        call.fail(error)
    else:
        forks.end_if_child()
        call.finish(value)


threads = Threads()
for _renew in (threads.renew, variables.renew, brought.renew, touched.renew):
    forks.renew_by(_renew)


async def drive_thread(call: Any, target: Callable[..., Any], arguments: dict[str, Any]) -> None:
    """Makes one call of a plain function."""
    try:
        value = await threads.run(call, target, arguments)
    except BaseException as error:
        call.fail(error)
    else:
        call.finish(value)


async def cancellable(call: Any, driver: Coroutine[Any, Any, None]) -> None:
    """Gives `call` its task, so that another thread can cancel it. Runs nothing if nobody waits any more."""
    if call.started(asyncio.current_task()):
        await driver
    else:
        driver.close()


def hush() -> None:
    """Makes DSPy and LiteLLM log errors only. To be called after their import, which sets their levels.

    Loggers are the process's: this holds for all jobs.
    """
    for name in ("dspy", "LiteLLM", "LiteLLM Router", "LiteLLM Proxy"):
        touched.level(name, logging.ERROR)
    litellm = sys.modules.get("litellm")
    if litellm is not None:
        touched.change(litellm, "suppress_debug_info", True)


def close(loop: asyncio.AbstractEventLoop) -> None:
    """Ends everything on the loop, as `asyncio.run` does, but waits for tasks at most one second."""
    try:
        if not loop.is_closed():
            loop.run_until_complete(_finish(loop))
    except TimeoutError:
        pass  # What is left ends with the process.
    finally:
        asyncio.set_event_loop(None)
        for work in _at_end.pop(loop, ()):
            with contextlib.suppress(Exception):
                work()
        try:
            loop.close()
        finally:
            forks.leave_loop()
            signals.forget()
            if touched.leave():
                threads.dismiss()
            _forget_thread()


def _forget_thread() -> None:
    """Takes out the object that `threading` makes for a thread that is not Python's: it may outlive the thread."""
    with threading._active_limbo_lock:
        number = threading.get_ident()
        if isinstance(threading._active.get(number), threading._DummyThread):
            del threading._active[number]


async def _finish(loop: asyncio.AbstractEventLoop) -> None:
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    if tasks:
        _, pending = await asyncio.wait(tasks, timeout=_PATIENCE_S)
        for task in pending:
            # It is known, and nobody can do anything about it.
            task._log_destroy_pending = False
            coroutine = task.get_coro()
            if type(coroutine).__name__ == "Worker":
                coroutine.close()
    # A thread that ends too late sets a result that nobody waits for.
    loop.set_exception_handler(
        lambda _, told: (
            isinstance(told.get("exception"), asyncio.InvalidStateError) or loop.default_exception_handler(told)
        )
    )
    async with asyncio.timeout(_PATIENCE_S):
        await loop.shutdown_asyncgens()
        await loop.shutdown_default_executor()


def stop_loops() -> None:
    """Has all loops end: the process is about to."""
    for loop in forks.loops():
        with contextlib.suppress(RuntimeError):  # It is closed.
            loop.call_soon_threadsafe(loop.stop)


def exit_functions(on_main_thread: bool) -> None:
    """Does what CPython does at exit and leaves to whoever embeds it: non-daemon threads, `atexit`, buffered output.

    To be called once a process. Only the main thread can wait for the threads, and an event loop may be stuck there.
    """
    if on_main_thread:
        threading._shutdown()
    atexit._run_exitfuncs()
    forks.flush()
