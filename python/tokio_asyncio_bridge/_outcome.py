"""What became of a row."""

from typing import Any, NamedTuple

from tokio_asyncio_bridge._errors import RowError
from tokio_asyncio_bridge._native import Outcome

__all__ = ["Outcome", "Usage"]


class Usage(NamedTuple):
    """Tokens and requests, as far as the predictor told."""

    input: int
    """Tokens of prompts."""
    output: int
    """Tokens of answers."""
    calls: int
    """Requests to the model."""


def unpickled(
    index: int,
    row: Any,
    answer: Any,
    error: RowError | None,
    attempts: int,
    latency: float,
    usage: tuple[int, int, int] | None,
    cost: float | None,
) -> Outcome:
    """The outcome that was pickled."""
    used = None if usage is None else Usage(*usage)
    return Outcome(
        index=index, row=row, answer=answer, error=error, attempts=attempts, latency=latency, usage=used, cost=cost
    )
