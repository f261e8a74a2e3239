"""Tells what is known of a DSPy predictor's requests before any call: its model, its price, its prompts."""

from collections.abc import Callable
from typing import Any, NamedTuple


class Metered(NamedTuple):
    """A predictor whose calls report their tokens. Prices are US dollars a token; None stands for unknown."""

    model: str | None
    price_in: float | None
    price_out: float | None
    max_tokens: int | None
    requests: int
    requests_may_differ: bool
    prompt_characters: int | None


def metered(call: Callable[..., Any]) -> Metered | None:
    """The facts about a callable that `dspy_predictor` made; None for any other, which does not report its tokens."""
    # Of a streamified program, `call` is the function that joins its chunks.
    stream = getattr(call, "__wrapped__", call)
    call = stream if hasattr(stream, "module") else call
    if not hasattr(call, "lm") or not hasattr(call, "adapter"):
        return None
    import dspy

    module = getattr(call, "module", None)
    predictors = module.predictors() if module is not None else []
    used = [call.lm or predictor.lm or dspy.settings.lm for predictor in predictors] or [call.lm]
    used = list({id(lm): lm for lm in used if isinstance(lm, dspy.LM)}.values())
    prices = [price(lm) for lm in used]
    known = [price for price in prices if price is not None]
    # Of several models the dearest counts, so that no estimate is too low.
    dearest = max(known, default=(None, None)) if len(known) == len(prices) else (None, None)
    limits = [lm.kwargs.get("max_tokens") or lm.kwargs.get("max_completion_tokens") for lm in used]
    return Metered(
        ", ".join(dict.fromkeys(lm.model for lm in used)) or None,
        *dearest,
        max(limits) if limits and all(isinstance(limit, int) for limit in limits) else None,
        max(len(predictors), 1),
        type(module) not in (dspy.Predict, dspy.ChainOfThought),
        sum(characters(predictor, call.adapter) for predictor in predictors) or None,
    )


def price(lm: Any) -> tuple[float, float] | None:
    """US dollars for a token in and for one out, by the table that DSPy prices its calls with; None if unknown."""
    try:
        from dspy.clients.capabilities import resolve
        from dspy.clients.model_metadata import model_info, rate

        route = resolve(lm)
        info = model_info(route.provider, route.model)
        prices = rate(info, "input_cost_per_token"), rate(info, "output_cost_per_token")
    except Exception:
        return None  # A custom model, for which DSPy reports no cost either.
    return prices if None not in prices else None


def characters(predictor: Any, adapter: Any) -> int:
    """The length of a prompt without its inputs: instructions, fields and examples."""
    blank = dict.fromkeys(predictor.signature.input_fields, "")
    try:
        messages = adapter.format(predictor.signature, predictor.demos, blank)
        return sum(len(message["content"]) for message in messages)
    except Exception:
        return 0  # An adapter of the user's that cannot format blank inputs.
