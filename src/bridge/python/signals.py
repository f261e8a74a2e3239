"""Keeps the signals that end the run from predictors and libraries that ask Python for them. All others are theirs."""

import _signal
import asyncio
import faulthandler
import signal
import threading
from typing import Any

from _tokio_asyncio_bridge import traces, warn

KEPT = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
# The signals that the program handles, unless somebody else took them.
_OURS = (*KEPT, signal.SIGUSR1)

# The handlers that the predictor asked for in vain; a child that it forks gets them.
_wanted: dict[int, Any] = {}
_set, _register = _signal.signal, faulthandler.register
# What Python took for their handlers when the program took them over: nothing where it was not told of any.
_found: dict[int, Any] = {}
_told = False
_forking = threading.local()


def keep() -> None:
    """Replaces the functions beneath `signal.signal` and the event loops' `add_signal_handler`."""

    def tell(number: int) -> None:
        global _told
        if not _told:
            _told = True
            seen = traces.where_is(threading.get_ident())
            warn(
                f"the handler of {signal.Signals(number).name} is never called: the run keeps SIGINT, SIGTERM and "
                f"SIGHUP for itself ({seen[0] if seen else 'in the predictor'})"
                "\nhint: register what must be done at the end with `atexit`"
            )

    def set_handler(number: int, handler: Any, /) -> Any:
        if number not in KEPT or not _is_main():
            try:
                return _set(number, handler)
            except ValueError as error:
                raise error if _is_main() else ValueError(f"{error} ({_hint()})") from None
        # Putting back what was found is no new handler: a library does so after it used one of its own for a while.
        if handler is None or handler in (signal.SIG_DFL, signal.default_int_handler):
            return _wanted.pop(number, None)
        tell(number)
        before, _wanted[number] = _wanted.get(number), handler
        return before

    def register(signum: int, *options: Any, **named: Any) -> None:
        if signum in KEPT:
            tell(signum)
        else:
            _register(signum, *options, **named)

    _found.update((number, signal.getsignal(number)) for number in _OURS)
    _signal.signal = set_handler
    faulthandler.register = register


def die() -> None:
    """Gives the signals that end a job their default effect, in a process that another one looks after."""
    for number in KEPT:
        _set(number, _signal.SIG_DFL)


def forget() -> None:
    """Called when a loop is closed: the handlers were those of the job whose loop had the main thread."""
    global _told
    if _is_main():
        _told = False
        _wanted.clear()


def hold_back() -> None:
    """Blocks the signals before a fork: one that comes before the child has its handlers would be lost."""
    _forking.mask = signal.pthread_sigmask(signal.SIG_BLOCK, _OURS)


def let_come() -> None:
    """Unblocks the signals after a fork."""
    signal.pthread_sigmask(signal.SIG_SETMASK, _forking.mask)


def give_back() -> None:
    """Gives a forked child Python's own handlers, or those that the predictor asked for: the run does not manage it."""
    _signal.signal, faulthandler.register = _set, _register
    defaults = {signal.SIGINT: signal.default_int_handler}
    for number in _OURS:
        if signal.getsignal(number) == _found[number]:
            signal.signal(number, _wanted.get(number, defaults.get(number, signal.SIG_DFL)))


def _is_main() -> bool:
    return threading.current_thread() is threading.main_thread()


def _hint() -> str:
    if asyncio._get_running_loop() is not None:
        return "here the event loop has a thread of its own; limit time with `asyncio.timeout`"
    return "a plain `def` runs on another thread; an `async def` predictor runs on the main one"
