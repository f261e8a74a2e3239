"""What answers the rows: a SPEC, or an object of the calling code."""

import inspect
import types
from collections.abc import Callable
from typing import Any, TypeAlias

from tokio_asyncio_bridge._native import Given

# A SPEC (`path/to/file.py:name`, `package.module:name`, or `dspy`), or what is to be called: an `async def`, an async
# generator, a plain function, a method, a `functools.partial`, an object with `__call__` or `acall`, a `dspy.Module`.
# A class is made once for each run, without arguments.
Predictor: TypeAlias = str | Callable[..., Any]


def given(predictor: Predictor) -> tuple[dict[str, str], Given | None]:
    """The option that names a SPEC, or the object that takes its place, with the context of the caller.

    Raises TypeError for what cannot be called.
    """
    if isinstance(predictor, str):
        return {"predictor": predictor}, None
    reason = _unfit(predictor)
    if reason is not None:
        raise TypeError(f"`predictor=` {reason}")
    return {}, Given(predictor)


def _unfit(predictor: object) -> str | None:
    """Why the object cannot be called with rows, if that can be seen; the bridge refuses the rest when it loads it."""
    if inspect.iscoroutine(predictor) or inspect.isasyncgen(predictor) or inspect.isgenerator(predictor):
        name = predictor.__qualname__
        return f"is one call, `{name}(…)`, and not what to call: give `{name}` itself"
    if isinstance(predictor, types.ModuleType):
        return f"is the module `{predictor.__name__}`: give a function of it"
    if inspect.isclass(predictor):
        return _needs_arguments(predictor)
    if callable(predictor) or callable(getattr(predictor, "acall", None)):
        return None
    return f"takes a SPEC such as `app.py:answer`, or something to call, not {type(predictor).__name__}"


def _needs_arguments(kind: type) -> str | None:
    try:
        inspect.signature(kind).bind()
    except TypeError as error:
        return f"is the class `{kind.__qualname__}`, and making one needs arguments ({error}): give an instance"
    except ValueError:  # It has no signature that Python could tell.
        pass
    return None
