"""Confines a process that a predictor forks to the predictor's code: the child ends where that code is left.

In somebody else's process others fork too. Such a child is theirs: all that jobs have changed is put back there.
"""

import asyncio
import contextlib
import os
import sys
import threading
import traceback
from collections.abc import Callable
from types import FrameType
from typing import Any, NoReturn

from _tokio_asyncio_bridge import is_guest, printed, signals

# The packages that run the predictor's code. A child must not return to them.
_RUNNERS = ("asyncio", "uvloop", "threading", "concurrent", "anyio")
_OURS = "_tokio_asyncio_bridge."

# The event loops, by the thread that each runs on.
_loops: dict[int, asyncio.AbstractEventLoop] = {}
# Files that children must not hold, by their descriptors.
_kept: dict[int, os.stat_result] = {}
# What puts back in a child what jobs have changed in its parent.
_renewals: list[Callable[[], None]] = []
_is_child = False
_release: Callable[[], None] = lambda: None  # noqa: E731


def watch(mark: Callable[[bool], None], release: Callable[[], None]) -> None:
    """Looks after every process that Python forks from now on. To be called once a process.

    `mark` tells the bridge that it is in a child, and whether a predictor forked it. `release` writes what the bridge
    holds back of Python's output.
    """
    global _release
    _release = release

    def before() -> None:
        if not is_guest:
            flush()  # The parent writes what it has printed.
            signals.hold_back()

    def in_parent() -> None:
        if not is_guest:
            signals.let_come()

    def in_child() -> None:
        global _is_child
        is_ours = not is_guest or _is_predictors(sys._getframe(1))
        mark(is_ours)
        for descriptor, kept in _kept.items():
            if _is_open_on(descriptor, kept):
                os.close(descriptor)
        if not is_ours:
            _renew()
            return
        _is_child = True
        if not is_guest:
            printed.renew()
            signals.give_back()
            signals.let_come()
        if not _comes_to_us():
            _end_after_predictor(sys._getframe(1))

    os.register_at_fork(before=before, after_in_parent=in_parent, after_in_child=in_child)


def _is_predictors(innermost: FrameType) -> bool:
    """Whether a predictor's code has forked."""
    if threading.get_ident() in _loops:
        return True
    frame: FrameType | None = innermost
    while frame is not None:
        if str(frame.f_globals.get("__name__")).startswith(_OURS):
            return True
        frame = frame.f_back
    return False


def _renew() -> None:
    """Takes what jobs have brought and changed out of a child that is not theirs and has none of their threads."""
    _loops.clear()
    _kept.clear()
    for work in _renewals:
        work()


def renew_by(work: Callable[[], None]) -> None:
    """Has `work` done in each child that is not a predictor's."""
    _renewals.append(work)


def watch_loop(loop: asyncio.AbstractEventLoop) -> None:
    """Keeps children from running what waits on this loop. To be called on the thread that the loop will run on."""
    _loops[threading.get_ident()] = loop


def leave_loop() -> None:
    """The loop of this thread is closed."""
    _loops.pop(threading.get_ident(), None)


def loops() -> list[asyncio.AbstractEventLoop]:
    """The loops that are alive."""
    return list(_loops.values())


def _comes_to_us() -> bool:
    """Whether code of ours, which ends the child, runs next after the predictor's code."""
    loop = _loops.get(threading.get_ident())
    if loop is None or loop.is_closed():
        return False
    ready = getattr(loop, "_ready", None)
    if hasattr(ready, "appendleft"):
        ready.appendleft(asyncio.Handle(end, (), loop))
        return True
    # uvloop does not show its queue. A task of the predictor's own returns to other such tasks first.
    task = asyncio.current_task(loop)
    return task is None or type(task.get_coro()).__name__ == "Worker"


def _end_after_predictor(innermost: FrameType) -> None:
    """Ends the child when the outermost frame of the predictor's code returns or raises."""
    frame: FrameType | None = innermost
    outermost: FrameType | None = None
    while frame is not None:
        module = str(frame.f_globals.get("__name__"))
        # A process of multiprocessing never returns.
        if module.startswith(_OURS) or module == "multiprocessing.popen_fork":
            return
        # Behind the loop is the console script, which called the program.
        if module.partition(".")[0] == "tokio_asyncio_bridge":
            break
        if module.partition(".")[0] not in _RUNNERS:
            outermost = frame
        frame = frame.f_back
    if outermost is None:
        end()
    raised: BaseException | None = None

    def leaves(_: FrameType, event: str, argument: Any) -> Any:
        nonlocal raised
        if event == "return":
            end(raised)
        raised = argument[1] if event == "exception" else None
        return leaves

    outermost.f_trace = leaves
    sys.settrace(lambda *_: None)


def end(error: BaseException | None = None) -> NoReturn:
    """Ends the child with the exit code that Python would give it. Runs no exit functions: those are the parent's."""
    code: Any = 0
    try:
        if isinstance(error, SystemExit):
            code = 0 if error.code is None else error.code
            if not isinstance(code, int):
                print(code, file=sys.stderr)
                code = 1
        elif error is not None:
            code = 1
            traceback.print_exception(error)
        flush()
    finally:
        os._exit(code & 0xFF)


def end_if_child(error: BaseException | None = None) -> None:
    """Ends the process if it is a child. To be called where the predictor's code has returned or raised."""
    if _is_child:
        end(error)


def run(work: Callable[..., Any], /, *arguments: Any, **named: Any) -> Any:
    """Calls `work` on a thread, and ends the process there if `work` forked it."""
    try:
        value = work(*arguments, **named)
    except BaseException as error:
        end_if_child(error)
        raise
    end_if_child()
    return value


def keep_from_children(descriptor: int) -> None:
    """Closes the file in every process forked from now on: there, a lock or a pipe would outlive this process.

    Ends with `let_go`, or when the descriptor is found closed.
    """
    for other, kept in list(_kept.items()):
        if not _is_open_on(other, kept):
            let_go(other)
    _kept[descriptor] = os.fstat(descriptor)


def let_go(descriptor: int) -> None:
    """Takes `keep_from_children` back."""
    _kept.pop(descriptor, None)


def _is_open_on(descriptor: int, kept: os.stat_result) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), kept)
    except OSError:
        return False


def flush() -> None:
    """Writes whatever was printed and is still in a buffer."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):  # It is closed, or None.
            stream.flush()
    _release()
