"""Makes columns of what a predictor returned: text, one column for each field of a structured value, or JSON."""

import dataclasses
import json
import math
from collections import deque
from collections.abc import Mapping, Sequence, Set
from datetime import date, time, timedelta
from decimal import Decimal
from enum import Enum
from fractions import Fraction
from pathlib import PurePath
from typing import Any
from uuid import UUID

from _tokio_asyncio_bridge.traces import shorten

HINT = (
    "hint: return text, a mapping, dataclass, attrs or pydantic model (one column a field, such as "
    '`{"answer": "Paris", "score": 0.9}`), or a value that JSON can hold'
)
# Values of these classes become their text, as with pydantic; so does a `Decimal`.
TEXTS = (Fraction, UUID, PurePath)
# The modules of URLs and network addresses, which become their text too.
TEXT_MODULES = {"pydantic", "pydantic_core", "ipaddress", "yarl"}
# JSON's names for keys that are not strings.
WORDS = {None: "null", True: "true", False: "false"}


class NotAnAnswer(TypeError):
    """A value of no kind that makes an answer. The text says what it is, and keeps its `repr`."""


class Told:
    """A returned value and what its call used. Few values could be marked themselves, and calls may share a value."""

    def __init__(self, value: Any, used: Any) -> None:
        self.value = value
        self._bridge_usage = used


def represent(value: object) -> str:
    """`repr(value)`, also where that raises."""
    try:
        return shorten(repr(value))
    except BaseException as error:
        return f"<a {type(value).__name__} whose __repr__ raised {type(error).__name__}>"


def _as_mapping(value: Any) -> Mapping[Any, Any] | None:
    if isinstance(value, Mapping):
        return value
    if isinstance(value, type):
        return None
    names = _names(value)
    if names is not None:
        # A field that was never set is left out.
        held = ((name, getattr(value, name, dataclasses.MISSING)) for name in names)
        return {name: item for name, item in held if item is not dataclasses.MISSING}
    if hasattr(type(value), "toDict") and hasattr(type(value), "keys"):  # dspy's Prediction.
        return {name: value[name] for name in value.keys()}  # noqa: SIM118 (only `keys` is known to be there)
    return None


def _names(value: Any) -> list[str] | None:
    """The fields of a value whose class declares them. Classes are known by their attributes; nothing is imported."""
    kind = type(value)
    if dataclasses.is_dataclass(value):
        return [field.name for field in dataclasses.fields(value)]
    if hasattr(kind, "model_dump") and hasattr(kind, "model_fields"):  # pydantic's
        computed = getattr(getattr(kind, "__pydantic_decorators__", None), "computed_fields", ())
        return [*kind.model_fields, *(getattr(value, "model_extra", None) or ()), *computed]
    if hasattr(kind, "__attrs_attrs__"):
        return [attribute.name for attribute in kind.__attrs_attrs__]
    if hasattr(kind, "__struct_fields__"):  # msgspec's
        return list(kind.__struct_fields__)
    return None


class _Plain:
    """Makes JSON's own types of a value. A number that is not finite becomes null, and is counted."""

    def __init__(self) -> None:
        self.lost = 0

    def of(self, value: Any) -> Any:
        if isinstance(value, Enum):
            return self.of(value.value)
        if value is None or isinstance(value, (str, int)):
            return value
        if isinstance(value, (float, Decimal)):
            if not (value.is_finite() if isinstance(value, Decimal) else math.isfinite(value)):
                self.lost += 1
                return None
            return value if isinstance(value, float) else str(value)
        if (mapping := _as_mapping(value)) is not None:
            return {_key(name): self.of(item) for name, item in mapping.items()}
        if isinstance(value, (date, time)):
            return value.isoformat()
        if isinstance(value, timedelta):
            return value.total_seconds()
        if isinstance(value, TEXTS) or type(value).__module__.partition(".")[0] in TEXT_MODULES:
            return str(value)
        if isinstance(value, (bytes, bytearray)):
            return value.decode()
        if isinstance(value, type):
            raise TypeError(f"the class {value.__name__} has no JSON form")
        if callable(getattr(value, "tolist", None)):  # numpy's scalars and arrays, and those of similar libraries.
            return self.of(value.tolist())
        if isinstance(value, Set):
            return [self.of(item) for item in _ordered(value)]
        if isinstance(value, (Sequence, deque)):
            return [self.of(item) for item in value]
        raise TypeError(f"a value of type {type(value).__name__} has no JSON form")


def plain(value: Any) -> Any:
    """The value in JSON's own types. Raises TypeError for one that has no such form."""
    return _Plain().of(value)


def _ordered(values: Set[Any]) -> Any:
    """The members of a set, sorted if they can be, so that every process has the same order."""
    try:
        return sorted(values)
    except TypeError:
        return values


def _key(name: Any) -> str:
    """The name of a field as text, the only kind of key that JSON has."""
    if isinstance(name, Enum):
        return _key(name.value)
    if isinstance(name, str):
        return name
    if name is None or isinstance(name, bool):
        return WORDS[name]
    if isinstance(name, (int, float)):
        return json.dumps(name)  # The `repr` of numpy's numbers names their type.
    plain = _Plain().of(name)
    if isinstance(plain, (str, int, float)):
        return _key(plain)
    raise TypeError(f"a value of type {type(name).__name__} is no field name")


def _cell(value: Any) -> tuple[str, bool, int]:
    """The value as text, whether that text is JSON, and how many numbers in it became null."""
    lost = 0
    if not isinstance(value, str):
        try:
            text = json.dumps(value, ensure_ascii=False, allow_nan=False)
        except (TypeError, ValueError):
            plain = _Plain()
            value, lost = plain.of(value), plain.lost
            text = json.dumps(value, ensure_ascii=False, allow_nan=False)
    if isinstance(value, str):
        return escaped(value), False, lost
    try:
        text.encode()
    except UnicodeEncodeError:
        text = json.dumps(value, allow_nan=False)
    return text, True, lost


def _items(value: Any) -> list[tuple[Any, Any]]:
    """The columns of a value, each with its name as it is."""
    # An empty mapping is an answer too: nothing was found.
    return list((_as_mapping(value) or {"answer": value}).items())


def named(value: Any) -> dict[str, Any]:
    """The columns of an answer, each with its value as it is."""
    return {escaped(_key(name)): item for name, item in _items(value)}


def fields(value: Any) -> tuple[list[tuple[str, str, bool]], int]:
    """A `(name, text, is_json)` for each column, and how many numbers became null. Raises `NotAnAnswer`."""
    if isinstance(value, Told):
        value = value.value
    try:
        items = _items(value)
    except Exception as error:
        raise NotAnAnswer(_refusal(value, "answer", value, error)) from None
    columns, lost = [], 0
    for name, item in items:
        try:
            text, is_json, more = _cell(item)
            columns.append((escaped(_key(name)), text, is_json))
        except Exception as error:
            raise NotAnAnswer(_refusal(value, name, item, error)) from None
        lost += more
    return columns, lost


def _refusal(value: Any, name: Any, item: Any, error: Exception) -> str:
    if item is value:
        what = f"the predictor returned a value of type {type(value).__name__}, which cannot be an answer"
    else:
        what = f"field `{escaped(str(name))}` has no JSON form ({error})"
    return f"{what}: {represent(value)}; {HINT}"


def escaped(text: str) -> str:
    """The text with lone surrogates, which UTF-8 cannot hold, written as `\\ud800`, so that no paid answer is lost."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def usage(value: Any) -> tuple[int, int, int, float | None, str | None, str | None] | None:
    """Tokens in and out, requests, cost in US dollars, finish reason and request id, if the value reports them."""
    told = getattr(value, "_bridge_usage", None)
    return told if isinstance(told, tuple) else None
