"""Lists the source files that a predictor was loaded from, and finds the text of its own code."""

import functools
import inspect
import os
import sys
import textwrap
import types
from typing import Any

from _tokio_asyncio_bridge import brought, is_guest, loader, traces

# Arguments of a `functools.partial` that make it another predictor.
_PLAIN = (str, int, float, bool, type(None))


def loaded(source: str | None, given: Any) -> list[tuple[str, str]]:
    """The name and path of `source`, the predictor's own file, and of each module of the user's own imported so far.

    A module is the user's own if it belongs neither to the standard library nor to an installed package. Of a process
    that gave the predictor itself, as an object, only the modules count that its own module leads to.
    """
    imported = _imported() if given is None else _reached(given)
    files = {os.path.abspath(file) for file in imported if traces.is_own(file)}
    if source is not None:
        files.add(os.path.abspath(source))
    return sorted((_named(file), file) for file in files)


def _imported() -> list[str]:
    """The files of all imported modules but other jobs'.

    No attribute is asked for: that would import a module that is lazy.
    """
    others = brought.of_others()
    if not is_guest:
        others.add("__main__")  # The script that starts the program, such as `tab`, is none of the user's.
    imported = (module for name, module in list(sys.modules.items()) if name not in others)
    modules = [module for module in imported if isinstance(module, types.ModuleType)]
    files = (object.__getattribute__(module, "__dict__").get("__file__") for module in modules)
    return [file for file in files if isinstance(file, str)]


def _reached(target: Any) -> list[str]:
    """The files of the target's module, and of the user's own modules whose functions, classes and objects it holds."""
    files: list[str] = []
    waiting, seen = [_home(loader.named(target))], set[str]()
    while waiting:
        name = waiting.pop()
        module = sys.modules.get(name)
        if name in seen or not isinstance(module, types.ModuleType):
            continue
        seen.add(name)
        held = object.__getattribute__(module, "__dict__")
        file = held.get("__file__")
        if isinstance(file, str):
            if not traces.is_own(file):
                continue
            files.append(file)
        elif name != "__main__":  # That of a notebook has no file.
            continue
        waiting.extend(_home(value) for value in list(held.values()))
    return files


def _home(value: Any) -> str:
    """The name of the module that something comes from; of a module, its own. Instances are asked for nothing."""
    kind = type(value)
    if issubclass(kind, types.ModuleType):
        return str(object.__getattribute__(value, "__dict__").get("__name__"))
    return str((value if issubclass(kind, (types.FunctionType, types.MethodType, type)) else kind).__module__)


def code(target: Any) -> str | None:
    """The text of a function, or of the class of an object, if it is the user's own.

    None if Python has no source of it, as of what was made by `exec`.
    """
    bound: list[dict[Any, Any]] = []
    while issubclass(type(target), functools.partial):
        arguments = {**dict(enumerate(target.args)), **target.keywords}
        bound.append({name: value for name, value in arguments.items() if type(value) in _PLAIN})
        target = target.func
    named = loader.named(target)
    # Until Python 3.13, a class of a notebook has no source, but its methods do.
    held = vars(named).values() if issubclass(type(named), type) else ()
    for some in ([named], [part for part in held if type(part) is types.FunctionType]):
        texts = [text for part in some if (text := _text(part)) is not None]
        if texts:
            return "\n".join([*texts, *map(repr, bound)])
    return None


def _text(part: Any) -> str | None:
    try:
        part = inspect.unwrap(part)
        return textwrap.dedent(inspect.getsource(part)).strip() if traces.is_own(inspect.getfile(part)) else None
    except Exception:  # Whatever else than a function may be called.
        return None


def _named(file: str) -> str:
    # The name of a file may hold bytes that are no text.
    return file.encode("utf-8", "backslashreplace").decode("utf-8")
