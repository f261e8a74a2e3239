"""Tunes DSPy's own HTTP engine: as many connections as calls in flight, no thread and no price scan for each call."""

import asyncio
import functools
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import dspy
from _tokio_asyncio_bridge import dspy_replies, touched, warn
from dspy._vendor.lm15.transports import _proxy as proxies
from dspy.adapters import utils as adapters
from dspy.clients import costs, execution
from dspy.clients.backend_selection import select_backend
from dspy.clients.capabilities import capabilities
from dspy.clients.engines import AsyncLM15Engine, LM15Engine
from dspy.clients.engines.lm15_engine import timeouts_for
from dspy.clients.execution import StreamAccumulator
from dspy.lm15 import Request, Response, RouterConfig

# Fails here, and not in a job, if this release of DSPy lacks one of them.
_TUNED = (costs.model_info, proxies.getproxies, adapters.TypeAdapter)


def prepare() -> None:
    """Caches what DSPy does anew for every call, though once is enough, for as long as jobs are alive.

    It searches its whole table for the price of a model, searches the environment for proxies, and makes a validator
    for each value's class.
    """
    touched.change(costs, "model_info", functools.lru_cache(maxsize=256)(costs.model_info))
    touched.change(proxies, "getproxies", functools.cache(proxies.getproxies))
    # Only classes are cached: they are few, while an annotation may be anything, even unhashable.
    any_adapter = adapters.TypeAdapter
    known_adapter = functools.lru_cache(maxsize=256)(any_adapter)
    touched.change(adapters, "TypeAdapter", lambda kind: (known_adapter if type(kind) is type else any_adapter)(kind))


def lift_limit(connections: int) -> None:
    """Lifts the limit of 100 connections for every LM, including those of a user's file and of other jobs.

    DSPy has no setting for it, because an LM makes its engine itself.
    """
    if connections > getattr(execution.RouterConfig, "keywords", {}).get("max_connections", 100):
        touched.change(execution, "RouterConfig", functools.partial(RouterConfig, max_connections=connections))
    # The environment may have changed since an earlier job.
    proxies.getproxies.cache_clear()


def tuned(lm: Any, connections: int) -> Any:
    """The same model on an engine of ours; `lm` itself if DSPy would not send its requests by its own engine."""
    try:
        return _tuned(lm, connections)
    except Exception as error:
        # What this touches is internal to DSPy, and may have another name in the next release.
        warn(f"this release of DSPy is run without tuning, and makes fewer calls a second: {error!r}")
        return lm


def _tuned(lm: Any, connections: int) -> Any:
    if type(lm) is not dspy.LM or not isinstance(lm.engine, str):
        return lm
    selection = select_backend(lm)
    if not selection.native or selection.resolution.declared:
        return lm
    clients, provider = selection.clients, selection.resolution.provider
    url = clients.get("api_base") or clients.get("base_url")
    config = RouterConfig(
        api_keys={provider: clients["api_key"]} if "api_key" in clients else None,
        base_urls={provider: url} if url else None,
        timeouts=timeouts_for(clients.get("timeout")),
        max_connections=max(connections, 100),
    )
    engine = Engine(config, model_type=lm.model_type)
    engine.declare(capabilities(lm))
    asynchronous = AsyncEngine(config, model_type=lm.model_type)
    for owner, name in (
        (asynchronous, "_providers"),
        (asynchronous, "_target"),
        (engine, "resolve"),
        (costs, "estimate_cost"),
    ):
        # Fails here rather than in the first call, if this release of DSPy lacks one of them.
        getattr(owner, name)
    copied = lm.copy(engine=engine, async_engine=asynchronous, **dict.fromkeys(clients))
    try:
        # Fails if the model's settings ask for something that DSPy would hand to LiteLLM instead.
        engine.plan(execution._canonical(execution.prepare(copied, "", None, {})))
    except Exception:
        return lm
    return copied


def is_tuned(lm: Any) -> bool:
    """Whether the LM's engine reports every response to the call's meter, so that it needs no history."""
    return isinstance(getattr(lm, "engine", None), Engine)


class Engine(LM15Engine):
    """The engine for calls from threads."""

    def declare(self, able: Any) -> None:
        """Says what the model can do. DSPy looks that up only for engines of its own."""
        self.supports_function_calling = able.function_calling
        self.supports_reasoning = able.reasoning
        self.supports_response_schema = able.response_schema
        self.supported_params = able.params

    def complete(self, request: Request) -> Response:
        response = super().complete(request)
        told(self, request, response)
        return response

    def stream(self, request: Request) -> Any:
        accumulator = StreamAccumulator(request)
        for event in super().stream(request):
            accumulator.push(event)
            if event.type == "end":
                told(self, request, accumulator.response())
            yield event


class AsyncEngine(AsyncLM15Engine):
    """The engine for calls on the event loop."""

    async def complete(self, request: Request) -> Response:
        if not self._providers:
            # The first call may read credentials from files.
            await asyncio.to_thread(self._target, request)
        provider, routed = self._target(request)
        response = await provider.complete(routed)
        told(self, request, response)
        return response

    async def stream(self, request: Request) -> AsyncIterator[Any]:
        accumulator = StreamAccumulator(request)
        async for event in super().stream(request):
            accumulator.push(event)
            if event.type == "end":
                told(self, request, accumulator.response())
            yield event


def told(engine: LM15Engine | AsyncLM15Engine, request: Request, response: Response) -> None:
    """Reports a response to the call's meter: its cost in US dollars, why it ended, and what is wrong with it."""
    note = getattr(dspy.settings.usage_tracker, "note", None)
    if note is not None:
        route = engine.resolve(request.model)
        cost, _ = costs.estimate_cost(
            response, provider=route.provider, requested_model=route.model, request=replace(request, model=route.model)
        )
        note(cost, response.finish_reason, dspy_replies.fault(response))
