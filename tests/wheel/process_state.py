"""What a process is made of beside its data, to be compared before and after a job. Runs in the process in question."""

import asyncio
import atexit
import contextlib
import faulthandler
import gc
import logging
import os
import resource
import signal
import sys
import threading
import time
import warnings
from typing import Any

PACKAGES = ("dspy", "litellm", "LiteLLM", "openai", "httpx", "asyncio")
# How long threads and their files may take to go once a job has ended, in seconds.
SOON = 3.0


def snapshot() -> dict[str, Any]:
    """Everything that a job might touch, by name. Objects are compared by identity where they have no equality."""
    state: dict[str, Any] = {
        "signal handlers": {number: signal.getsignal(number) for number in signal.valid_signals()},
        "signals blocked": signal.pthread_sigmask(signal.SIG_BLOCK, []),
        "signal functions": (sys.modules["_signal"].signal, faulthandler.register),
        "directory": os.getcwd(),
        "environment": dict(os.environ),
        "sys.path": list(sys.path),
        "importers": (list(sys.meta_path), list(sys.path_hooks)),
        "modules of the user's": {name for name, module in list(sys.modules.items()) if _is_own(module)},
        "streams": (sys.stdin, sys.stdout, sys.stderr, sys.__stdout__, sys.__stderr__),
        "descriptors 0 to 2": [os.readlink(f"/proc/self/fd/{number}") for number in range(3)],
        "hooks": (sys.excepthook, sys.unraisablehook, sys.displayhook, threading.excepthook, sys.breakpointhook),
        "tracing": (sys.gettrace(), sys.getprofile(), threading.gettrace(), threading.getprofile()),
        "interpreter": (sys.getswitchinterval(), sys.getrecursionlimit(), sys.dont_write_bytecode),
        "garbage collector": (gc.isenabled(), gc.get_threshold(), list(gc.callbacks)),
        "warning filters": list(warnings.filters),
        "loggers": {name: _logger(name) for name in ("", *logging.root.manager.loggerDict) if _is_watched(name)},
        "event loop policy": asyncio.get_event_loop_policy(),
        "exit functions": atexit._ncallbacks(),  # type: ignore[attr-defined]
        "limits": {name: resource.getrlimit(getattr(resource, name)) for name in dir(resource) if "RLIMIT_" in name},
        "umask": _umask(),
        "files": sorted(_files()),
        "threads of Python": sorted(thread.name for thread in threading.enumerate()),
        "threads": sorted(_threads()),
    }
    if "dspy" in sys.modules:
        state |= _dspy()
    if "litellm" in sys.modules:
        state["LiteLLM"] = _globals(sys.modules["litellm"])
    with open("/proc/self/status") as status:
        return state | {line[:6]: line for line in status if line.startswith(("SigBlk", "SigIgn", "SigCgt"))}


def settled() -> dict[str, Any]:
    """The same, once no thread of an earlier job is about to end."""
    while True:
        before = snapshot()
        time.sleep(0.3)
        if snapshot() == before:
            return before


def differences(before: dict[str, Any]) -> list[str]:
    """What is otherwise than before, after some time for threads to end."""
    until = time.monotonic() + SOON
    while True:
        now = snapshot()
        found = [name for name in before if before[name] != now[name]]
        if not found or time.monotonic() > until:
            return [f"{name}: {_told(before[name], now[name])}" for name in found]
        time.sleep(0.02)


def _told(before: Any, now: Any) -> str:
    if isinstance(before, dict):
        names = [name for name in {**before, **now} if before.get(name, _told) != now.get(name, _told)]
        return ", ".join(f"{name}: {before.get(name)!r} -> {now.get(name)!r}" for name in names)
    return f"{before!r} -> {now!r}"


def _is_own(module: Any) -> bool:
    file = getattr(module, "__file__", None)
    return isinstance(file, str) and not any(part in file for part in ("site-packages", "/lib/python3", "_bridge"))


def _is_watched(name: str) -> bool:
    return name == "" or name.partition(".")[0].startswith(PACKAGES)


def _logger(name: str) -> tuple[Any, ...]:
    logger = logging.getLogger(name)
    return logger.level, list(logger.filters), list(logger.handlers), logger.propagate, logger.disabled


def _umask() -> int:
    mask = os.umask(0o022)
    os.umask(mask)
    return mask


def _files() -> list[str]:
    found = []
    for number in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):  # The listing's own.
            found.append(f"{number}: {os.readlink(f'/proc/self/fd/{number}')}")
    return found


def _threads() -> list[str]:
    names = []
    for task in os.listdir("/proc/self/task"):
        # One may have just ended.
        with contextlib.suppress(FileNotFoundError, ProcessLookupError), open(f"/proc/self/task/{task}/comm") as name:
            names.append(name.read().strip())
    return names


def _dspy() -> dict[str, Any]:
    from dspy._vendor.lm15 import rate_limits
    from dspy._vendor.lm15.transports import _proxy
    from dspy.adapters import utils
    from dspy.clients import base_lm, costs, execution
    from dspy.lm15 import OpenAIChatLM, OpenAILM

    settings = sys.modules["dspy.dsp.utils.settings"]
    return {
        "settings of DSPy": dict(settings.main_thread_config),
        "owner of DSPy's settings": (settings.config_owner_thread_id, settings.config_owner_async_task),
        "overrides of DSPy's settings": dict(settings.thread_local_overrides.get()),
        "functions of DSPy": {
            "model_info": costs.model_info,
            "getproxies": _proxy.getproxies,
            "TypeAdapter": utils.TypeAdapter,
            "RouterConfig": execution.RouterConfig,
            "MAX_HISTORY_SIZE": base_lm.MAX_HISTORY_SIZE,
            "RATE_LIMIT_HEADERS": rate_limits.RATE_LIMIT_HEADERS,
            "OpenAILM": OpenAILM._response_error,
            "OpenAIChatLM": OpenAIChatLM._response_error,
        },
    }


def _globals(module: Any) -> dict[str, Any]:
    plain = (bool, int, float, str, bytes, type(None))
    return {
        name: list(value) if isinstance(value, list) else value
        for name, value in vars(module).items()
        if isinstance(value, (*plain, list)) and not name.startswith("__")
    }
