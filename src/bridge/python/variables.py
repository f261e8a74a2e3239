"""Variables that a job's env file sets. In somebody else's process they are there for as long as the job lasts."""

import os
import threading

# By name, the value and how many jobs it is lent to.
_lent: dict[str, tuple[str, int]] = {}
_lock = threading.Lock()


def lend(variables: list[tuple[str, str]]) -> list[str]:
    """Sets those that are not set. Returns the names of those that `take_back` is to be given.

    Raises ValueError if another job has set one of them to another value.
    """
    with _lock:
        for name, value in variables:
            if _lent.get(name, (value, 0))[0] != value:
                raise ValueError(
                    f"another job in this process has set `{name}` to another value, from its own env file"
                    "\nhint: start the job when the other has ended, or in another process"
                )
        taken = []
        for name, value in variables:
            if name in _lent or name not in os.environ:
                os.environ[name] = value
                _lent[name] = (value, _lent.get(name, (value, 0))[1] + 1)
                taken.append(name)
    return taken


def replace(variables: list[tuple[str, str]]) -> None:
    """Sets them for the rest of the process, whether or not they are set."""
    os.environ.update(variables)


def take_back(names: list[str]) -> None:
    """A job has ended that was lent these."""
    with _lock:
        for name in names:
            value, jobs = _lent.pop(name, ("", 0))
            if jobs > 1:
                _lent[name] = (value, jobs - 1)
            elif os.environ.get(name) == value:
                del os.environ[name]


def renew() -> None:
    """Takes all of them out of a forked child, which has none of the jobs."""
    global _lock
    _lock = threading.Lock()
    for name in list(_lent):
        _lent[name] = (_lent[name][0], 1)
    take_back(list(_lent))
