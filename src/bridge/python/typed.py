"""Converts a column's values to the type of their parameter, by pydantic's rules.

The whole file is checked before the first call. Values are made anew for each call, so that no memory grows with the
rows.
"""

import functools
import importlib.util
import inspect
import mimetypes
import operator
import os
import sys
import types
import typing
from collections.abc import Callable
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin

# Annotations that the value of any column fits as it is.
UNTYPED = (inspect.Parameter.empty, str, Any, object)
# The MIME types that files of DSPy's types must have.
MIME = {"Image": "image/", "Audio": "audio/"}


class NotOfType(ValueError):
    """The value cannot be converted to the parameter's type."""


class Untyped(Exception):
    """pydantic cannot make values of the annotated type; the text says why."""


class Missing:
    """Stands in for a type if pydantic is not installed: refuses the run if a column gives the parameter a value."""

    takes_null = takes_blank = False

    def __init__(self, annotation: Any, refusal: Exception) -> None:
        self.name, self._refusal = display(annotation), refusal

    def look_in(self, directory: os.PathLike[str]) -> None:
        pass

    def misfits(self, values: list[tuple[str, bool]]) -> list[tuple[int, str]]:
        raise self._refusal


class Typed:
    """A parameter's type."""

    def __init__(self, annotation: Any) -> None:
        from pydantic import TypeAdapter

        self.name = display(annotation)
        # What pydantic passes on to `from_text`: where a relative path to an image is looked for (beside the input,
        # then where the program was started), and whether the image is only checked, and not read.
        places = [os.getcwd()]
        self._make: dict[str, Any] = {"places": places, "check": False}
        self._check: dict[str, Any] = {"places": places, "check": True}
        try:
            self._adapter = TypeAdapter(with_files(annotation))
        except Exception as error:
            raise Untyped(f"{type(error).__name__}: {error}".splitlines()[0]) from None
        self.takes_null = self._takes(None)
        self.takes_blank = self._takes("")

    def look_in(self, directory: os.PathLike[str]) -> None:
        """Relative paths are looked for in the directory first."""
        places = self._make["places"]
        places[:] = dict.fromkeys((os.fspath(directory), places[-1]))

    def _takes(self, value: Any) -> bool:
        try:
            self._adapter.validate_python(value, context=self._check)
        except Exception:
            return False
        return True

    def text(self, text: str, check: bool = False) -> Any:
        """Converts a CSV cell or a JSON string, in which lists, mappings and models are JSON. Raises `NotOfType`."""
        context = self._check if check else self._make
        if text.lstrip()[:1] in ("[", "{"):
            try:
                return self._adapter.validate_json(text, context=context)
            except Exception as error:
                refused = error
            try:
                return self._adapter.validate_python(text, context=context)
            except Exception:
                raise NotOfType(reason(refused)) from None
        try:
            return self._adapter.validate_python(text, context=context)
        except Exception as error:
            refused = error
        try:
            return self._adapter.validate_json(text, strict=True, context=context)  # `Literal[1, 2]` of `1`.
        except Exception:
            raise NotOfType(reason(refused)) from None

    def json(self, text: str, check: bool = False) -> Any:
        """Converts any other JSON value. Raises `NotOfType`."""
        try:
            return self._adapter.validate_json(text, context=self._check if check else self._make)
        except Exception as error:
            raise NotOfType(reason(error)) from None

    def misfits(self, values: list[tuple[str, bool]]) -> list[tuple[int, str]]:
        """The places of those values, each `(text, is_json)`, that cannot be converted, and why."""
        found = []
        for place, (text, is_json) in enumerate(values):
            try:
                (self.json if is_json else self.text)(text, check=True)
            except NotOfType as error:
                found.append((place, str(error)))
        return found


def reason(error: Exception) -> str:
    """The first fault, in pydantic's words."""
    errors = getattr(error, "errors", None)
    if not callable(errors):
        return f"{type(error).__name__}: {error}"
    first = errors(include_url=False, include_context=False, include_input=False)[0]
    message = first["msg"].removeprefix("Value error, ")
    message = message[:1].lower() + message[1:]
    place = ".".join(str(part) for part in first["loc"])
    return f"`{place}`: {message}" if place else message


def display(annotation: Any) -> str:
    """The annotation as it is written: `int`, `list[str]`, `Literal['a', 'b']`."""
    if get_origin(annotation) is Annotated:
        annotation = get_args(annotation)[0]
    if isinstance(annotation, type) and not get_args(annotation):
        return annotation.__qualname__.rpartition("<locals>.")[2]
    return repr(annotation).replace("typing.", "").replace("__main__.", "")


def with_files(annotation: Any) -> Any:
    """The annotation, in which `dspy.Image` and the like also accept a path, a URL or a data URI."""
    if isinstance(annotation, type) and not get_args(annotation):
        dspy = sys.modules.get("dspy")
        if dspy is None or not issubclass(annotation, dspy.Type) or not hasattr(annotation, "from_path"):
            return annotation
        from pydantic import BeforeValidator

        return Annotated[annotation, BeforeValidator(functools.partial(from_text, annotation))]
    origin, parts = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return Annotated[(with_files(parts[0]), *parts[1:])]
    if origin is Literal or not any(isinstance(part, type) or get_args(part) for part in parts):
        return annotation
    made = tuple(with_files(part) for part in parts)
    if made == parts:
        return annotation
    return functools.reduce(operator.or_, made) if origin in (Union, types.UnionType) else origin[made]


def from_text(kind: Any, value: Any, info: Any) -> Any:
    """Makes an image, or the like, of the text that names it; returns anything else as it is."""
    if not isinstance(value, str):
        return value
    if value.startswith("data:") or "://" in value:
        return kind(value)
    looked = info.context["places"]
    path = next((path for place in looked if os.path.isfile(path := os.path.join(place, value))), None)
    if path is None:
        places = "" if os.path.isabs(value) else f" in {' or '.join(f'`{place}`' for place in looked)}"
        raise ValueError(f"there is no such file{places}")
    if not info.context["check"]:
        return kind.from_path(path)
    if not os.access(path, os.R_OK):
        raise ValueError(f"`{path}` cannot be read")
    wanted = MIME.get(kind.__name__, "")
    mime = mimetypes.guess_type(path)[0] or ("" if wanted else "application/octet-stream")
    if not mime.startswith(wanted):
        raise ValueError(f"`{path}` is no {kind.__name__.lower()} by its name")
    return kind(f"data:{mime};base64,")


def signature(target: Callable[..., Any]) -> inspect.Signature:
    """The target's signature. Annotations that are text are resolved, or kept as text if they cannot be."""
    found = inspect.signature(target)
    names = namespace(target)
    parameters = [
        parameter.replace(annotation=resolved(parameter.annotation, names)) for parameter in found.parameters.values()
    ]
    return found.replace(parameters=parameters)


def resolved(annotation: Any, names: dict[str, Any]) -> Any:
    """The annotation that a text stands for, or the text itself."""
    if annotation is inspect.Parameter.empty:
        return annotation
    holder = types.SimpleNamespace(__annotations__={"it": annotation})
    try:
        return typing.get_type_hints(holder, names, include_extras=True)["it"]
    except Exception:
        return annotation  # It names what only type checkers import, or it is not a type at all.


def namespace(target: Any) -> dict[str, Any]:
    """The globals of the module in which the target's annotations are written."""
    while inner := target.func if isinstance(target, functools.partial) else getattr(target, "__wrapped__", None):
        target = inner
    if not inspect.isroutine(target):
        target = inspect.unwrap(type(target).__call__)
    return getattr(getattr(target, "__func__", target), "__globals__", {})


def is_typed(annotation: Any) -> bool:
    """Whether a column's value may have to be converted for the annotation."""
    return not (annotation in UNTYPED or isinstance(annotation, (str, TypeVar)))


def has_pydantic() -> bool:
    return importlib.util.find_spec("pydantic") is not None
