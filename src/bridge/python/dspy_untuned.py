"""Stands in for `dspy_engine.py` where that does not fit the release of DSPy: its engines stay as they are."""

from typing import Any


def prepare() -> None:
    """Leaves DSPy as it is."""


def lift_limit(connections: int) -> None:
    """Leaves DSPy's limit of connections as it is."""


def tuned(lm: Any, connections: int) -> Any:
    """The model as it is."""
    return lm


def is_tuned(lm: Any) -> bool:
    """False: no model is tuned."""
    return False
