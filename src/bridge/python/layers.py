"""Finds what stands unseen between a predictor's call and the model: retries, caches, limits of others."""

import contextlib
import sys
from collections.abc import Iterator
from typing import Any

# DSPy's own default; another number was chosen by somebody.
_DSPY_WORKERS = 8
_CLIENTS = ("OpenAI", "AsyncOpenAI", "AzureOpenAI", "AsyncAzureOpenAI")
_held = contextlib.ExitStack()

Layers = tuple[list[tuple[str, int]], list[str]]


def around(target: Any, module: Any, lm: Any, calls: int) -> Layers:
    """What sends more than one request an attempt and how many at most, and what else is to be said.

    `module` is the `dspy.Module` of the target, if it is one; `lm` is what we gave it, None for the file's own choice.
    """
    repeating: list[tuple[str, int]] = []
    cautions: list[str] = []
    seen: set[int] = set()
    for name, client in _clients(target, module, lm):
        if id(client) in seen:
            continue
        seen.add(id(client))
        option = "max_retries" if type(client).__name__ in _CLIENTS else "num_retries"
        retries = getattr(client, option, 0)
        if isinstance(retries, int) and retries > 0:
            repeating.append((f"`{option}={retries}` of {name}", retries + 1))
        if getattr(client, "cache", False) is True:
            cautions.append(
                f"the cache of {name} is on: repeated questions, and retries of unreadable replies, get the same reply"
                "\nhint: make it with `cache=False`"
            )
    limit = _lift_dspy_workers(calls)
    if limit is not None:
        cautions.append(
            f"`async_max_workers={limit}` lets `dspy.asyncify` and `dspy.streamify` run only {limit} calls at once"
            f"\nhint: leave it out, and {calls} run"
        )
    return repeating, cautions


def _clients(target: Any, module: Any, lm: Any) -> Iterator[tuple[str, Any]]:
    dspy, openai = sys.modules.get("dspy"), sys.modules.get("openai")
    if dspy is not None:
        lms = [lm or dspy.settings.lm, *(part.lm for part in (module.predictors() if module is not None else ()))]
        yield from ((f"the model `{found.model}`", found) for found in lms if isinstance(found, dspy.BaseLM))
    if module is not None:
        return
    # What a function may use are its file's own.
    file = sys.modules.get(getattr(target, "__module__", None) or type(target).__module__)
    kinds = tuple(
        kind
        for package, names in ((dspy, ("BaseLM",)), (openai, _CLIENTS))
        for name in names
        if isinstance(kind := getattr(package, name, None), type)
    )
    yield from (
        (f"`{name}`", value) for name, value in (vars(file) if file else {}).items() if isinstance(value, kinds)
    )


def _lift_dspy_workers(calls: int) -> int | None:
    """Lets DSPy's threads be as many as the calls, unless the user's file chose how many: then that number."""
    dspy = sys.modules.get("dspy")
    if dspy is None or dspy.settings.async_max_workers >= calls:
        return None
    if dspy.settings.async_max_workers != _DSPY_WORKERS:
        return dspy.settings.async_max_workers
    # Not left again: the calls' contexts are copies of this one.
    _held.enter_context(dspy.context(async_max_workers=calls))
    return None
