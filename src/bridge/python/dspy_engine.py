"""DSPy's own HTTP engine at full width: as many connections as calls, no thread and no price scan a call."""

import asyncio
import functools
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import dspy
from _tokio_asyncio_bridge import dspy_replies, warn
from dspy._vendor.lm15.transports import _proxy as proxies
from dspy.adapters import utils as adapters
from dspy.clients import costs, execution
from dspy.clients.backend_selection import select_backend
from dspy.clients.capabilities import capabilities
from dspy.clients.engines import AsyncLM15Engine, LM15Engine
from dspy.clients.engines.lm15_engine import timeouts_for
from dspy.clients.execution import StreamAccumulator
from dspy.lm15 import Request, Response, RouterConfig

# What DSPy does anew for every call and need do once: it looks the price of a model up in its whole table, searches the
# environment for proxies, and makes a validator of each value's class.
costs.model_info = functools.lru_cache(maxsize=256)(costs.model_info)
proxies.getproxies = functools.cache(proxies.getproxies)
_type_adapter = adapters.TypeAdapter
_known_adapter = functools.lru_cache(maxsize=256)(_type_adapter)
# Classes are few; an annotation may be anything, also unhashable.
adapters.TypeAdapter = lambda kind: (_known_adapter if type(kind) is type else _type_adapter)(kind)


def lift_limit(connections: int) -> None:
    """Lifts the limit of 100 connections for every LM, also those that a user's file makes.

    DSPy has no setting for it: an LM makes its engine itself.
    """
    execution.RouterConfig = functools.partial(RouterConfig, max_connections=max(connections, 100))


def tuned(lm: Any, connections: int) -> Any:
    """The same model on an engine of ours; `lm` itself where DSPy would not send its requests by its own engine."""
    try:
        return _tuned(lm, connections)
    except Exception as error:
        # What it touches is DSPy's own and may have another name in the next release.
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
        # What a call uses has to be there before the first one.
        getattr(owner, name)
    copied = lm.copy(engine=engine, async_engine=asynchronous, **dict.fromkeys(clients))
    try:
        # What DSPy would hand to LiteLLM instead, its settings asked for.
        engine.plan(execution._canonical(execution.prepare(copied, "", None, {})))
    except Exception:
        return lm
    return copied


def is_tuned(lm: Any) -> bool:
    """Whether its engine tells the call's meter of every response, so that no history is needed for it."""
    return isinstance(getattr(lm, "engine", None), Engine)


class Engine(LM15Engine):
    """For calls from threads."""

    def declare(self, able: Any) -> None:
        """Says what the model can do: of an engine that is not its own, DSPy does not look it up."""
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
    """For calls on the event loop."""

    async def complete(self, request: Request) -> Response:
        if not self._providers:
            # The first call may read credentials.
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
    """Tells the call's meter what a response cost, in US dollars, why it ended, and what is wrong with it."""
    note = getattr(dspy.settings.usage_tracker, "note", None)
    if note is not None:
        route = engine.resolve(request.model)
        cost, _ = costs.estimate_cost(
            response, provider=route.provider, requested_model=route.model, request=replace(request, model=route.model)
        )
        note(cost, response.finish_reason, dspy_replies.fault(response))
