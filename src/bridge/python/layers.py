"""Finds what stands between a predictor's call and the model without being seen: retries, caches and limits.

A client that repeats requests multiplies load and cost, a cache answers retries with what failed before, and a small
pool makes `-c` a wish. None of them shows in a run's figures, so each is told before the first call.
"""

import asyncio
import concurrent.futures
import sys
import threading
from collections.abc import Iterator
from typing import Any

from _tokio_asyncio_bridge import brought, reachable

# DSPy's own default. Any other number was chosen by the user.
_DSPY_WORKERS = 8
# The base classes of OpenAI's client, Anthropic's, and others that the same generator makes.
_CLIENTS = {"SyncAPIClient", "AsyncAPIClient"}

Layers = tuple[list[tuple[str, int]], list[str]]


def around(target: Any, source: str | None, module: Any, lm: Any, calls: int) -> Layers:
    """What may send more than one request for one attempt, with the most it sends, and further warnings.

    `source` is the target's file, `module` its `dspy.Module` if it is one, and `lm` the model that we gave it, None for
    the file's own choice.
    """
    repeating: list[tuple[str, int]] = []
    cautions: list[str] = []
    seen: set[int] = set()
    for name, part in found(target, source, module, lm):
        if id(part) in seen:
            continue
        seen.add(id(part))
        held = reachable.attributes(part)
        for option in ("num_retries", "max_retries"):
            retries = held.get(option, 0) if _is_client(part) else 0
            if isinstance(retries, int) and retries > 0:
                repeating.append((f"`{option}={retries}` of {name}", retries + 1))
        if _is_lm(part) and held.get("cache") is True:
            cautions.append(
                f"the cache of {name} is on: repeated questions, and retries of unreadable replies, get the same reply"
                "\nhint: make it with `cache=False`"
            )
        cap = _cap(part, held)
        if cap is not None and cap[0] < calls:
            limit, what, remedy = cap
            cautions.append(
                f"{name} takes only {limit} {_calls(limit)} at once ({what}), and `-c` is {calls}"
                f"\nhint: {remedy.format(calls=calls)}, or lower `-c`"
            )
    limit = _lift_dspy_workers(calls)
    if limit is not None:
        cautions.append(
            f"`async_max_workers={limit}` lets `dspy.asyncify` and `dspy.streamify` run only {limit} "
            f"{_calls(limit)} at once"
            f"\nhint: leave it out, and {calls} run"
        )
    return repeating, cautions


def found(target: Any, source: str | None, module: Any, lm: Any) -> Iterator[tuple[str, Any]]:
    """The models that the target asks and whatever else its file holds, each with a name for people."""
    dspy = sys.modules.get("dspy")
    if dspy is not None:
        models = [lm or dspy.settings.lm, *(part.lm for part in (module.predictors() if module is not None else ()))]
        yield from ((f"the model `{model.model}`", model) for model in models if isinstance(model, dspy.BaseLM))
    # The file's own default model is not asked if another one takes its place.
    replaced = dspy.settings.lm if dspy is not None and lm is not None else None
    own = reachable.objects(target, source)
    yield from ((f"`{name}`", part) for name, part in own if replaced is None or part is not replaced)


def _calls(number: int) -> str:
    return "call" if number == 1 else "calls"


def _is_lm(value: Any) -> bool:
    dspy = sys.modules.get("dspy")
    return dspy is not None and issubclass(type(value), dspy.BaseLM)


def _is_client(value: Any) -> bool:
    return _is_lm(value) or any(kind.__name__ in _CLIENTS for kind in type(value).__mro__)


def _cap(value: Any, held: dict[str, Any]) -> tuple[int, str, str] | None:
    """How many calls something runs at once, the setting that says so, and how to raise it; None if it has no limit."""
    if issubclass(type(value), concurrent.futures.Executor):
        limit, setting = held.get("_max_workers"), "max_workers"
        remedy = "make it with `max_workers={calls}`"
    elif issubclass(type(value), asyncio.Semaphore | threading.Semaphore):
        limit, setting = held.get("_value"), "value"
        remedy = "leave it out, for `-c` bounds the calls"
    elif _is_of("aiohttp", type(value), "BaseConnector", "ClientSession"):
        limit, setting = _of_aiohttp(held)
        remedy = "make it with `aiohttp.TCPConnector(limit={calls})`"
    else:
        limit, setting = _of_httpx(value, held), "max_connections"
        remedy = "make it with `httpx.Limits(max_connections={calls})`"
    return (limit, f"`{setting}={limit}`", remedy) if isinstance(limit, int) else None


def _is_of(package: str, kind: type, *names: str) -> bool:
    return any(str(one.__module__).partition(".")[0] == package and one.__name__ in names for one in kind.__mro__)


def _of_aiohttp(held: dict[str, Any]) -> tuple[int | None, str]:
    """The connections of a session or a connector, of which 0 stands for any number."""
    held = reachable.attributes(held["_connector"]) if "_connector" in held else held
    limits = [(held.get("_limit"), "limit"), (held.get("_limit_per_host"), "limit_per_host")]
    return min((limit for limit in limits if limit[0]), default=(None, ""))


def _of_httpx(value: Any, held: dict[str, Any]) -> int | None:
    """The connections of an httpx client, or of the one within an API client. Over HTTP/2 one carries many requests."""
    if _is_of("httpx", type(value), "Limits"):
        return held.get("max_connections")
    if any(kind.__name__ in _CLIENTS for kind in type(value).__mro__):
        value = held.get("_client")
        held = reachable.attributes(value)
    if not _is_of("httpx", type(value), "BaseClient", "AsyncHTTPTransport", "HTTPTransport"):
        return None
    transport = held.get("_transport", value)
    pool = reachable.attributes(reachable.attributes(transport).get("_pool"))
    return None if pool.get("_http2") else pool.get("_max_connections")


def _lift_dspy_workers(calls: int) -> int | None:
    """Lets DSPy have as many threads as calls. If the user's file chose a smaller number, returns that instead."""
    dspy = sys.modules.get("dspy")
    if dspy is None or dspy.settings.async_max_workers >= calls:
        return None
    if dspy.settings.async_max_workers != _DSPY_WORKERS:
        return dspy.settings.async_max_workers
    brought.override(async_max_workers=calls)
    return None
