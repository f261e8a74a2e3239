"""What jobs change of the process and of other people's modules while they run. It is put back when none is left.

In a process that is the program's own it stays until the next job comes, for the sake of exit functions.
"""

import contextlib
import logging
import os
import threading
from collections.abc import Callable
from typing import Any

from _tokio_asyncio_bridge import is_guest

_lock = threading.RLock()
# Jobs whose event loops are alive.
_jobs = 0
# Puts back one change each, the last one first.
_undo: list[Callable[[], None]] = []
_begun: set[str] = set()


def enter() -> None:
    """A job begins."""
    global _jobs
    with _lock:
        if _jobs == 0:
            _put_back()
        _jobs += 1


def leave() -> bool:
    """A job has ended. Returns whether it was the last."""
    global _jobs
    with _lock:
        _jobs -= 1
        if _jobs == 0 and is_guest:
            _put_back()
        return _jobs == 0


def first(what: str) -> bool:
    """Whether this is the first time that it is asked since all was put back."""
    with _lock:
        known = what in _begun
        _begun.add(what)
        return not known


def undo_by(work: Callable[[], None]) -> None:
    """Has `work` put back what was changed."""
    _undo.append(work)


def change(owner: Any, name: str, value: Any) -> None:
    """Sets an attribute. It is put back unless somebody else has set it meanwhile."""
    with _lock:
        before = getattr(owner, name)
        if _jobs == 0 or before is value:
            return
        setattr(owner, name, value)

    def undo() -> None:
        if getattr(owner, name) is value:
            setattr(owner, name, before)

    undo_by(undo)


def variable(name: str, value: str) -> None:
    """Sets a variable of the environment."""
    before = os.environ.get(name)
    os.environ[name] = value

    def undo() -> None:
        if os.environ.get(name) != value:
            return
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before

    undo_by(undo)


def level(name: str, value: int) -> None:
    """Sets the level of a logger."""
    logger = logging.getLogger(name)
    before = logger.level
    with _lock:
        if _jobs == 0 or before == value:
            return
        logger.setLevel(value)

    def undo() -> None:
        if logger.level == value:
            logger.setLevel(before)

    undo_by(undo)


def filtered(name: str, by: Any) -> None:
    """Adds a filter to a logger."""
    logger = logging.getLogger(name)
    logger.addFilter(by)
    undo_by(lambda: logger.removeFilter(by))


def renew() -> None:
    """Puts everything back in a forked child, which has none of the jobs."""
    global _jobs, _lock
    _jobs, _lock = 0, threading.RLock()
    _put_back()


def _put_back() -> None:
    _begun.clear()
    while _undo:
        with contextlib.suppress(Exception):
            _undo.pop()()
