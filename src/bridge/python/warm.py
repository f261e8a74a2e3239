"""Imports all of LiteLLM before the first call, if the predictor or one of its models uses it.

In its first call LiteLLM imports the rest of itself and OpenAI's client, which takes seconds and stops the event loop.
"""

import asyncio
import contextlib
import importlib
import sys
from typing import Any

from _tokio_asyncio_bridge import layers, touched

# What the first call of OpenAI's client imports, and what DSPy's first call through LiteLLM imports.
_CLIENT, _ENGINE = "openai.resources.chat.completions", "dspy.clients.engines.litellm_engine"
# Any model will do if the predictor calls LiteLLM itself.
_MODEL = "openai/gpt-4o-mini"
# LiteLLM's lists of callbacks, which it would run for the call that is made here.
_TOLD = ("callbacks", "input_callback", "success_callback", "failure_callback", "service_callback")
_TOLD += ("_async_input_callback", "_async_success_callback", "_async_failure_callback")


def up(target: Any, source: str | None, module: Any, lm: Any, loop: asyncio.AbstractEventLoop) -> None:
    """Does nothing, at no cost, if DSPy sends all of the predictor's requests itself."""
    if "openai" in sys.modules:
        with contextlib.suppress(Exception):
            importlib.import_module(_CLIENT)
    model = _MODEL if "litellm" in sys.modules else None
    if "dspy" in sys.modules:
        found = (made.model for _, made in layers.found(target, source, module, lm) if _through_litellm(made))
        model = next(found, model)
    if model is None:
        return
    # Whatever fails here fails again in the first call, which reports it.
    with contextlib.suppress(Exception):
        import litellm

        touched.change(litellm, "suppress_debug_info", True)
        for late in (_CLIENT, _ENGINE) if "dspy" in sys.modules else (_CLIENT,):
            with contextlib.suppress(ImportError):
                importlib.import_module(late)
        if not any(getattr(litellm, name, None) for name in _TOLD):
            # Nothing is sent: LiteLLM makes up the reply.
            messages = [{"role": "user", "content": "hello"}]
            call = litellm.acompletion(model=model, messages=messages, api_key="none", mock_response="hello")
            loop.run_until_complete(call)


def _through_litellm(model: Any) -> bool:
    import dspy

    with contextlib.suppress(Exception):
        from dspy.clients.backend_selection import select_backend

        return isinstance(model, dspy.LM) and isinstance(model.engine, str) and not select_backend(model).native
    return False
