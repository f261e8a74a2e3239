"""In place of `dspy_engine.py` where it does not fit the release of DSPy: DSPy's own engines, as they are."""

from typing import Any


def lift_limit(connections: int) -> None:
    """Leaves DSPy's limit of connections."""


def tuned(lm: Any, connections: int) -> Any:
    """The same model."""
    return lm


def is_tuned(lm: Any) -> bool:
    """No model is."""
    return False
