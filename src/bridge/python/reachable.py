"""Lists what a predictor's code can reach by name, without running any of it: no property, no `__getattr__`.

`layers` looks among these objects for clients, pools and models, which predictors keep in attributes, classes, lists,
closures, defaults, globals, and other modules of the user's.
"""

import contextlib
import functools
import os
import sys
import types
from collections import deque
from collections.abc import Iterator
from typing import Any

_DEEPEST = 4
_MOST = 2_000
# The first few members of a long list stand for the rest.
_FIRST = 20


def objects(target: Any, source: str | None) -> Iterator[tuple[str, Any]]:
    """The objects in attributes, closures and globals of the user's own code, each once, with a name; nearest first.

    `source` is the file that the target comes from. Modules that lie beside it are the user's own too. Without a file,
    it comes from a notebook, of whose globals it reaches those that its code names.
    """
    own = _notebook() if source is None else _modules_beside(source)
    file = next((module for module in own.values() if source is not None and module.__file__ == source), None)
    seen = {id(target), id(file)}
    name = target.__name__ if type(target) is types.FunctionType else type(target).__name__
    waiting = deque((name, part, 1) for name, part in _parts(name, target, own))
    waiting.extend((name, value, 1) for name, value in _globals(file))
    while waiting and len(seen) < _MOST:
        name, value, depth = waiting.popleft()
        if id(value) in seen:
            continue
        seen.add(id(value))
        yield name, value
        if depth < _DEEPEST:
            waiting.extend((name, part, depth + 1) for name, part in _parts(name, value, own))


def attributes(value: Any) -> dict[str, Any]:
    """The attributes that an instance stores, without running its `__getattr__` or its properties."""
    stored: dict[str, Any] = {}
    for kind in type(value).__mro__:
        for name, member in vars(kind).items():
            slot = type(member) is types.MemberDescriptorType
            if not slot and (name != "__dict__" or type(member) is not types.GetSetDescriptorType):
                continue
            with contextlib.suppress(AttributeError):  # The slot is not set.
                held = member.__get__(value)
                stored |= held if name == "__dict__" else {name: held}
    return stored


def _modules_beside(source: str) -> dict[str, types.ModuleType]:
    """The modules loaded from the file's directory and below, by name, without installed packages."""
    directory = os.path.join(os.path.dirname(os.path.abspath(source)), "")
    return {
        name: module
        for name, module in list(sys.modules.items())
        if type(module) is types.ModuleType
        and isinstance(file := vars(module).get("__file__"), str)
        and (file == source or (os.path.abspath(file).startswith(directory) and "site-packages" not in file))
    }


def _notebook() -> dict[str, types.ModuleType]:
    """`__main__`, by its name, if it comes from no file."""
    main = sys.modules["__main__"]
    return {} if hasattr(main, "__file__") else {"__main__": main}


def _globals(module: types.ModuleType | None) -> Iterator[tuple[str, Any]]:
    if module is not None:
        yield from ((name, value) for name, value in list(vars(module).items()) if not name.startswith("__"))


def _parts(name: str, value: Any, own: dict[str, types.ModuleType]) -> Iterator[tuple[str, Any]]:
    kind = type(value)
    if kind is types.FunctionType:
        yield from _of_function(value)
        if value.__module__ in own:
            held = value.__globals__
            yield from ((name, held[name]) for name in _named(value.__code__) if name in held)
    elif kind is types.MethodType:
        yield name, value.__self__
        yield name, value.__func__
    elif issubclass(kind, functools.partial):
        yield from ((name, part) for part in (value.func, *value.args, *value.keywords.values()))
    elif kind is types.ModuleType:
        if value.__name__ in own:
            yield from ((f"{name}.{inner}", part) for inner, part in _globals(value))
    elif kind in (list, tuple, set, frozenset):
        yield from ((name, part) for part in list(value)[:_FIRST])
    elif kind is dict:
        yield from ((name, part) for part in list(value.values())[:_FIRST])
    else:
        # An instance, and what its classes hold; of a class, what it and its bases hold.
        classes = value.__mro__ if issubclass(kind, type) else kind.__mro__
        classes = [one for one in classes if str(one.__module__) in own]
        if classes:
            stored = {} if issubclass(kind, type) else attributes(value)
            for part in (stored, *(vars(one) for one in classes)):
                yield from ((f"{name}.{inner}", held) for inner, held in part.items() if not inner.startswith("__"))


def _of_function(function: types.FunctionType) -> Iterator[tuple[str, Any]]:
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=False):
        with contextlib.suppress(ValueError):  # The cell is empty.
            yield name, cell.cell_contents
    defaults = (*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values())
    yield from ((function.__name__, default) for default in defaults)


def _named(code: types.CodeType) -> Iterator[str]:
    """The names of globals and attributes in a function's code, and in that of functions within it."""
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _named(constant)
