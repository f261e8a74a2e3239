"""What a predictor returned, as columns: `str`, mapping, dataclass, pydantic model, `dspy.Prediction`; nothing else."""

import dataclasses
import json
from collections.abc import Mapping
from typing import Any

from _tokio_asyncio_bridge.traces import shorten


class NotAnAnswer(TypeError):
    """The value is none of the kinds that make an answer; the text says what it is and keeps its `repr`."""


def represent(value: object) -> str:
    """`repr(value)`, also where that raises."""
    try:
        return shorten(repr(value))
    except BaseException as error:
        return f"<a {type(value).__name__} whose __repr__ raised {type(error).__name__}>"


def _as_mapping(value: Any) -> Mapping[Any, Any] | None:
    if isinstance(value, Mapping):
        return value
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    if isinstance(value, type):
        return None
    # pydantic's BaseModel and dspy's Prediction, known by what they can do so that neither must be imported.
    if hasattr(type(value), "model_dump") and hasattr(type(value), "model_fields"):
        return {name: getattr(value, name) for name in type(value).model_fields}
    if hasattr(type(value), "toDict") and hasattr(type(value), "keys"):
        return {name: value[name] for name in value.keys()}  # noqa: SIM118 (only `keys` is known to be there)
    return None


def _plain(value: Any) -> Any:
    """For `json.dumps`: nested structured values as mappings."""
    mapping = _as_mapping(value)
    if mapping is None:
        raise TypeError(f"a value of type {type(value).__name__} has no JSON form")
    return dict(mapping)


def _json(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, default=_plain)
    try:
        text.encode()
    except UnicodeEncodeError:
        text = json.dumps(value, allow_nan=False, default=_plain)
    return text


def fields(value: Any) -> list[tuple[str, str, bool]]:
    """One `(name, text, is_json)` a column. Raises `NotAnAnswer`."""
    mapping = _as_mapping(value)
    if mapping is None:
        kind = type(value).__name__
        raise NotAnAnswer(f"the predictor returned a value of type {kind}, which is no answer: {represent(value)}")
    columns = []
    for name, item in mapping.items():
        if not isinstance(name, str):
            raise NotAnAnswer(f"the predictor returned a field name that is no string: {represent(value)}")
        if isinstance(item, str):
            columns.append((escaped(name), escaped(item), False))
            continue
        try:
            columns.append((escaped(name), _json(item), True))
        except Exception as error:
            raise NotAnAnswer(f"field `{escaped(name)}` has no JSON form ({error}): {represent(value)}") from None
    if not columns:
        raise NotAnAnswer(f"the predictor returned no field: {represent(value)}")
    return columns


def escaped(text: str) -> str:
    """The text with lone surrogates, which UTF-8 cannot hold, written as in `\\ud800`: a paid answer is never lost."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def usage(value: Any) -> tuple[int, int, int, float | None, str | None] | None:
    """Tokens in and out, requests, cost in US dollars and finish reason, where a prediction or an exception tells."""
    told = getattr(value, "_bridge_usage", None)
    return told if isinstance(told, tuple) else None
