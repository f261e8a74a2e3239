"""Packs a predictor that is an object, and what surrounds it in this process, for a process of its own."""

import io
import linecache
import pickle
import subprocess
import sys
import types
import warnings
from typing import Any

from _tokio_asyncio_bridge import brought, loader, objects, sources, traces

# The program's own, which still runs when another takes its place.
_main: Any = None


def program(module: str) -> list[str]:
    """The command that runs a module in a process of this interpreter's kind."""
    if not sys.executable:
        raise loader.LoadError(
            "this process does not know its Python, which other processes are to run (`sys.executable` is empty)"
            "\nhint: leave out `workers=` or `ray=`"
        )
    options = subprocess._args_from_interpreter_flags()  # type: ignore[attr-defined]
    return [sys.executable, *options, "-m", module]


def surroundings() -> bytes:
    """Where modules are looked for, which warnings are shown, and what `__main__` is."""
    file = vars(sys.modules["__main__"]).get("__file__")
    # The cells of a notebook are in no file.
    cells = {name: tuple(entry) for name, entry in linecache.cache.items() if len(entry) == 4 and entry[1] is None}
    filters = [packed for entry in warnings.filters if (packed := _packed(entry)) is not None]
    return pickle.dumps((sys.path, sys.argv, filters, file, cells))


def surround(packed: bytes) -> None:
    """Gives this process the surroundings of another."""
    global _main
    sys.path[:], sys.argv[:], filters, file, cells = pickle.loads(packed)
    linecache.cache.update(cells)
    warnings.filters[:] = [entry for packed in filters if (entry := _unpacked(packed)) is not None]  # type: ignore[index]
    warnings._filters_mutated()  # type: ignore[attr-defined]
    _main, sys.modules["__main__"] = sys.modules["__main__"], types.ModuleType("__main__")
    if file is not None:
        sys.modules["__main__"].__file__ = file


def _packed(entry: Any) -> bytes | None:
    try:
        return pickle.dumps(tuple(entry))
    except Exception:  # A category that no other process could find.
        return None


class _Reader(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        # A library that is not imported has yet to set its filters.
        if module not in sys.modules:
            raise LookupError(module)
        return super().find_class(module, name)


def _unpacked(packed: bytes) -> Any:
    try:
        return _Reader(io.BytesIO(packed)).load()
    except (AttributeError, LookupError):
        return None


def pack(target: Any, name: str, is_near: bool) -> tuple[bytes, list[tuple[str, str]], str | None]:
    """The object with DSPy's settings, pickled; the source files that it comes from; and the text of its own code.

    It is for a worker process of this machine, or for an actor of Ray. To be called in the context of its calls. Raises
    LoadError for one that cannot be pickled.
    """
    where, option = ("a worker process", "workers=") if is_near else ("the Ray cluster", "ray=")
    try:
        import cloudpickle
    except ImportError:
        raise loader.LoadError(
            f"`{name}` is an object of this process, and sending it to {where} needs `cloudpickle`"
            f"\nhint: run `{sys.executable} -m pip install cloudpickle`, or name the predictor as "
            "`path/to/file.py:name`"
        ) from None
    parts = {"": target, **brought.changed_settings()}
    for part, value in parts.items():
        try:
            cloudpickle.dumps(value)
        except Exception as error:
            what = f"`{name}`" if not part else f"`dspy.settings.{part}`"
            raise loader.LoadError(
                f"{what} cannot be sent to {where}: {type(error).__name__}: {traces.message(error)}"
                "\nhint: make what it holds within the predictor or its module, name the predictor as "
                f"`path/to/file.py:name`, or leave out `{option}`"
            ) from None
    source = objects.source(target)
    return cloudpickle.dumps(parts), sources.loaded(source, target), sources.code(target)


def unpack(packed: bytes, name: str) -> Any:
    """The object. DSPy's settings are made those that it came with."""
    try:
        parts = pickle.loads(packed)
    except Exception as error:
        raise loader.LoadError(
            f"`{name}` cannot be made again where it was sent: {type(error).__name__}: {traces.message(error)}"
            "\nhint: define it in a module that can be imported, or name the predictor as `path/to/file.py:name`"
        ) from None
    target = parts.pop("")
    brought.take_settings(parts)
    return target
