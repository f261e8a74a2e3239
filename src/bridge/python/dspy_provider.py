"""Refuses a model that no provider serves before its first call. DSPy and LiteLLM say which providers exist."""

import difflib
import sys
from typing import Any

import dspy
from _tokio_asyncio_bridge import touched
from _tokio_asyncio_bridge.loader import LoadError


def require_known(lm: dspy.LM) -> None:
    """Raises LoadError if neither DSPy's own engine nor LiteLLM, which gets the rest, knows the model's provider.

    LiteLLM takes seconds to import, and is asked only if the first call would import it too.
    """
    if isinstance(lm.engine, str) and not is_native(lm) and not known_to_litellm(lm):
        raise LoadError(f"`{lm.model}` names no provider that DSPy or LiteLLM knows\nhint: {remedy(lm)}")


def is_native(lm: dspy.LM) -> bool:
    """Whether DSPy sends the model's requests by its own engine; True if this release of DSPy does not tell."""
    try:
        from dspy.clients.backend_selection import select_backend

        return select_backend(lm).native
    except (ImportError, AttributeError):
        return True


def known_to_litellm(lm: dspy.LM) -> bool:
    """Whether LiteLLM knows the model's provider."""
    litellm = imported(lm.model)
    provider = lm.kwargs.get("custom_llm_provider") or lm.model.partition("/")[0]
    # A provider's name is not looked up, because some providers log in when they are.
    if provider in litellm.provider_list or any(own["provider"] == provider for own in litellm.custom_provider_map):
        return True
    try:
        litellm.get_llm_provider(lm.model, api_base=lm.kwargs.get("api_base"))
    except litellm.BadRequestError:
        return False
    return True


def imported(model: str) -> Any:
    """LiteLLM. Raises LoadError if it is not installed."""
    try:
        import litellm
    except ModuleNotFoundError as error:
        if error.name != "litellm":
            raise
        raise LoadError(
            f"`{model}` needs the package `litellm`\nhint: run `{sys.executable} -m pip install litellm`"
        ) from None
    touched.change(litellm, "suppress_debug_info", True)  # It would print; DSPy sets this too.
    return litellm


def remedy(lm: dspy.LM) -> str:
    """The hint for a model whose provider is unknown."""
    provider, slash, name = lm.model.partition("/")
    if lm.kwargs.get("api_base"):
        return f"for a server with OpenAI's interface write `--model openai/{lm.model}`"
    known = [getattr(other, "value", other) for other in imported(lm.model).provider_list]
    close = difflib.get_close_matches(provider.lower(), known, n=2, cutoff=0.75) if slash else []
    if close:
        return f"did you mean {' or '.join(f'`--model {other}/{name}`' for other in close)}?"
    return (
        "write `--model PROVIDER/NAME`, such as `openai/gpt-4o-mini`; "
        f"for a server with OpenAI's interface `--model openai/{lm.model} --api-base URL`"
    )
