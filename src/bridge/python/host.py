"""What runs on the event loop's thread around the predictor's calls."""

import asyncio
import atexit
import logging
import sys
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from _tokio_asyncio_bridge import forks
from _tokio_asyncio_bridge.threads import Threads

_PATIENCE_S = 1.0


def new_loop(kind: str) -> tuple[asyncio.AbstractEventLoop, str]:
    """A loop of the kind asked for (`auto`: uvloop where it can be imported) and the name of what it is."""
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
    forks.watch_loop(loop)
    return loop


def widen(loop: asyncio.AbstractEventLoop, calls: int) -> None:
    """Lets `asyncio.to_thread` and the like run for all calls at once: by itself asyncio has a few threads a core.

    As many again are for those that ran on when their calls had timed out. A thread is started where none is idle.
    """
    loop.set_default_executor(_Executor(max(32, 2 * calls), thread_name_prefix="asyncio"))


class _Executor(ThreadPoolExecutor):
    """A forked child ends with the work in which it was forked."""

    def submit(self, fn: Callable[..., Any], /, *arguments: Any, **named: Any) -> Any:
        return super().submit(forks.run, fn, *arguments, **named)

    def _adjust_thread_count(self) -> None:
        # The work is queued by now. Where no thread can be started, it waits for one of those there are; where there is
        # none, it is taken back: this is reported as the failure of a call, which must not run later.
        try:
            super()._adjust_thread_count()
        except Exception:
            if not self._threads:
                self._work_queue.get_nowait()
                raise


# `drive_*`: the body of one call's task. Everything that leaves the predictor is caught, `SystemExit` and
# `KeyboardInterrupt` too: raised through a task they would end the loop and every other call with it.


async def drive(call: Any, target: Callable[..., Any], arguments: dict[str, Any]) -> None:
    """One call of an async function."""
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
    """One call of an async generator."""
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


async def drive_thread(call: Any, target: Callable[..., Any], arguments: dict[str, Any]) -> None:
    """One call of a plain function."""
    try:
        value = await threads.run(call, target, arguments)
    except BaseException as error:
        call.fail(error)
    else:
        call.finish(value)


async def cancellable(call: Any, driver: Coroutine[Any, Any, None]) -> None:
    """Tells `call` its task, for cancelling from another thread; runs nothing where nobody waits any more."""
    if call.started(asyncio.current_task()):
        await driver
    else:
        driver.close()


def hush() -> None:
    """Lets DSPy and LiteLLM log errors only; said once both are imported, for they set their levels themselves."""
    for name in ("dspy", "LiteLLM", "LiteLLM Router", "LiteLLM Proxy"):
        logging.getLogger(name).setLevel(logging.ERROR)
    litellm = sys.modules.get("litellm")
    if litellm is not None:
        litellm.suppress_debug_info = True


def close(loop: asyncio.AbstractEventLoop) -> None:
    """Ends everything on the loop, as `asyncio.run` does, but waits for no task longer than a second."""

    async def finish() -> None:
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=_PATIENCE_S)
        async with asyncio.timeout(_PATIENCE_S):
            await loop.shutdown_asyncgens()
            await loop.shutdown_default_executor()

    try:
        loop.run_until_complete(finish())
    except TimeoutError:
        pass  # Whatever holds out ends with the process.
    finally:
        asyncio.set_event_loop(None)
        loop.close()


def exit_functions(on_main_thread: bool) -> None:
    """What CPython does at exit and embedding leaves to us: non-daemon threads, `atexit`, buffered output.

    The threads can be waited for on the main thread alone, where an event loop may be stuck.
    """
    if on_main_thread:
        threading._shutdown()
    atexit._run_exitfuncs()
    forks.flush()
