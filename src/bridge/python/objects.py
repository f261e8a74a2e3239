"""Predictors that are objects of the caller's: their names, and the context that they are called in."""

import asyncio
import contextvars
import os
import sys
import types
from typing import Any

from _tokio_asyncio_bridge import brought, loader, traces


def take(target: Any) -> tuple[str, contextvars.Context]:
    """The name of the predictor, and a copy of the caller's context, with DSPy's settings as the caller sees them."""
    context = contextvars.copy_context()
    context.run(brought.keep_settings)
    return name(target), context


def name(target: Any) -> str:
    """`module:qualified.name`: of a function, of what a `functools.partial` is made of, or of an object's class.

    A script's `__main__` is named by its file. Without a file it is `<notebook>`, or `__main__`.
    """
    named = loader.named(target)
    module = getattr(named, "__module__", None) or type(named).__module__
    return f"{_main() if module == '__main__' else module}:{named.__qualname__}"


def spec(target: Any) -> str | None:
    """The SPEC that finds the object again in another process: `/path/to/file.py:name`. None if it is no function that
    is as its file has it now at the top, under its own name.

    A script that runs as `__main__` is none: to import it may run it anew.
    """
    if not isinstance(target, types.FunctionType) or target.__closure__ is not None:
        return None
    module, file = sys.modules.get(target.__module__), source(target)
    if file is None or target.__module__ == "__main__" or vars(module).get(target.__qualname__) is not target:
        return None
    # Other code may have put it there.
    if not file.endswith(".py") or os.path.abspath(target.__code__.co_filename) != file:
        return None
    directory, stem = os.path.split(file.removesuffix(".py"))
    if target.__module__ != ".".join([*loader.package_of(directory)[1], stem]):
        return None
    try:
        with open(file, "rb") as text:
            has = target.__code__ in compile(text.read(), file, "exec", dont_inherit=True).co_consts
    except (OSError, SyntaxError, ValueError):
        return None
    return f"{file}:{target.__qualname__}" if has else None


def _main() -> str:
    main = vars(sys.modules["__main__"])
    spec, file = main.get("__spec__"), main.get("__file__")
    if spec is not None:  # `python -m package.module`.
        return spec.name
    if isinstance(file, str):
        return os.path.basename(file)
    return "<notebook>" if "get_ipython" in main else "__main__"


def find(target: Any, loop: asyncio.AbstractEventLoop, to_change: bool) -> tuple[Any, str | None]:
    """The predictor, and the file that it comes from if that is the user's own. A class is made inside the loop.

    A module `to_change`, because a saved program is to be loaded into it, is copied: it is the caller's.
    """
    made = loader.instance(target, loop)
    part = loader.module_of(made) if to_change else None
    if part is not None and part is not made:
        raise loader.LoadError(
            "`--program` cannot be loaded into what `dspy.streamify` has made of a module\n"
            "hint: load it into the module before: `module.load('program.json')`"
        )
    return (made if part is None else part.deepcopy()), source(target)


def source(target: Any) -> str | None:
    """The file that the object comes from, if that is the user's own."""
    module = sys.modules.get(getattr(loader.named(target), "__module__", None) or "")
    file = getattr(module, "__file__", None)
    return os.path.abspath(file) if isinstance(file, str) and traces.is_own(file) else None
