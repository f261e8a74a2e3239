"""Finds the predictor that a SPEC names, and tells how it is called."""

import asyncio
import contextlib
import functools
import importlib
import importlib.util
import inspect
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

from _tokio_asyncio_bridge import brought, traces, typed
from _tokio_asyncio_bridge.streams import joined

OFFERED = ("row_id", "attempt")


class LoadError(Exception):
    """The predictor cannot be loaded. The text says why, and names the remedy."""


@dataclass
class Predictor:
    """A predictor ready to be called: `call(**arguments)` returns an awaitable, or is run on a thread."""

    call: Callable[..., Any]
    kind: str
    source: str | None
    streaming: bool = False
    threaded: bool = False
    takes_all: bool = False
    parameters: list[tuple[str, bool]] = field(default_factory=list)
    offered: list[str] = field(default_factory=list)
    types: list[tuple[str, typed.Typed | typed.Missing]] = field(default_factory=list)
    cautions: list[str] = field(default_factory=list)


def _import_file(path: str) -> ModuleType:
    if not os.path.isfile(path):
        raise LoadError(f"there is no file `{path}`")
    directory, stem = os.path.dirname(os.path.abspath(path)), os.path.splitext(os.path.basename(path))[0]
    root, package = package_of(directory)
    look_in(root)
    # A module of a package may have the name of one of the standard library, so the directory comes last.
    _look_last_in(directory)
    if package and path.endswith(".py"):
        name = ".".join(package if stem == "__init__" else [*package, stem])
        # If another package of that name is there already, or is found first, the file is loaded by itself.
        found = _find(name)
        if found is not None and found.has_location and os.path.samefile(found.origin, path):
            return importlib.import_module(name)
    name, copies = stem, 0
    while name in sys.modules:  # The user's `json.py` must not replace Python's.
        name, copies = f"{stem}_{copies}", copies + 1
    found = importlib.util.spec_from_file_location(name, path)
    if found is None or found.loader is None:
        raise LoadError(f"`{path}` is no Python file\nhint: give `path/to/file.py:name` or `package.module:name`")
    module = importlib.util.module_from_spec(found)
    brought.add_file(name, module)  # Dataclasses and pickles look up their module there.
    found.loader.exec_module(module)
    return module


def package_of(directory: str) -> tuple[str, list[str]]:
    """The directory above the outermost package that a directory is in, and the names of the packages below it."""
    package: list[str] = []
    while os.path.isfile(os.path.join(directory, "__init__.py")):
        parent, name = os.path.split(directory)
        if not name.isidentifier() or parent == directory:
            break
        directory, package = parent, [name, *package]
    return directory, package


def _find(name: str) -> ModuleSpec | None:
    """Where a module would be imported from. Imports the packages that it is in."""
    outermost = name.partition(".")[0]
    try:
        if importlib.util.find_spec(outermost) is None:
            return None
        return importlib.util.find_spec(name)
    except (ModuleNotFoundError, ValueError) as error:
        # If a module within the package lacks another one, the user must know.
        if isinstance(error, ModuleNotFoundError) and not f"{name}.".startswith(f"{error.name}."):
            raise
        return None


def look_in(*directories: str) -> None:
    """Has modules looked for in these directories first, in this order, and in `./src` last."""
    for directory in reversed(directories):
        brought.add_directory(directory, 0)
    source = os.path.join(os.getcwd(), "src")
    # It comes last because it may hold names of the standard library, which are meant to be imported as `src.…`.
    if os.path.isdir(source):
        _look_last_in(source)
    for directory in directories:
        twin = brought.twin(directory)
        if twin is not None:
            raise LoadError(
                f"`{directory}` holds a module `{twin[0]}`, and another job in this process has imported `{twin[1]}` "
                "under that name\nhint: start the job when the other has ended, or in another process"
            )


def _look_last_in(directory: str) -> None:
    brought.add_directory(directory, -1)


def _import(place: str) -> ModuleType:
    """The module that a file or a name stands for."""
    if place.endswith(".py") or os.sep in place:
        return _import_file(place)
    look_in(os.getcwd())
    return importlib.import_module(place)


def resolve(spec: str) -> tuple[Any, str | None]:
    """The object that a SPEC such as `path/to/file.py:name` names, and the file it comes from."""
    place, separator, name = spec.rpartition(":")
    if not separator or not name.isidentifier():
        raise LoadError(
            f"`{spec}` names no predictor\nhint: give `path/to/file.py:name`, `package.module:name` or `dspy`"
        )
    module = _import(place)
    try:
        return getattr(module, name), getattr(module, "__file__", None)
    except AttributeError:
        own = {n: v for n, v in vars(module).items() if getattr(v, "__module__", None) == module.__name__}
        names = [n for n, v in own.items() if callable(v)]
        has = f"it has {', '.join(f'`{n}`' for n in names)}" if names else "it defines nothing that can be called"
        raise LoadError(f"`{place}` has no `{name}`; {has}") from None


def require_dspy() -> None:
    """Raises LoadError if DSPy is not installed. A broken DSPy says so itself when it is imported."""
    if importlib.util.find_spec("dspy") is None:
        pip = f"{sys.executable} -m pip install"
        # Where the program was installed by pip, an extra of it brings DSPy.
        is_package = importlib.util.find_spec("tokio_asyncio_bridge") is not None
        remedy = f"`{pip} 'tokio-asyncio-bridge[dspy]'`" if is_package else f"`make setup`, or `{pip} dspy`"
        raise LoadError(f"`{sys.executable}` has no package `dspy`\nhint: run {remedy}")


def is_dspy_module(target: Any) -> bool:
    """Whether it is an instance of `dspy.Module`, without importing DSPy where the user did not."""
    dspy = sys.modules.get("dspy")
    return dspy is not None and isinstance(target, dspy.Module)


def module_of(target: Any) -> Any:
    """The target if it is a `dspy.Module`, or the one that `dspy.streamify` made it of; None for anything else."""
    if is_dspy_module(target):
        return target
    if getattr(target, "__qualname__", None) != "streamify.<locals>.async_streamer":
        return None
    return next(_modules_in(target), None)


def _modules_in(value: Any) -> Iterator[Any]:
    """The modules in a function's closure, in the closures of functions there, and behind bound methods."""
    value = getattr(value, "__self__", value)
    if is_dspy_module(value):
        yield value
    for cell in getattr(value, "__closure__", None) or ():
        with contextlib.suppress(ValueError):  # The cell is empty.
            yield from _modules_in(cell.cell_contents)


def _take_parameters(predictor: Predictor, target: Any) -> None:
    """Fills in the parameters that the call takes by name."""
    try:
        parameters = typed.signature(target).parameters.values()
    except (TypeError, ValueError):
        predictor.takes_all = True
        return
    for parameter in parameters:
        required = parameter.default is parameter.empty
        if parameter.kind is parameter.VAR_KEYWORD:
            predictor.takes_all = True
        elif parameter.kind is parameter.POSITIONAL_ONLY and required:
            raise LoadError(f"parameter `{parameter.name}` is positional-only, and columns are passed by name")
        elif parameter.name in OFFERED:
            predictor.offered.append(parameter.name)
        elif parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY):
            predictor.parameters.append((parameter.name, required))
            _take_type(predictor, parameter)


def _take_type(predictor: Predictor, parameter: inspect.Parameter) -> None:
    """Notes the parameter's type, if it is annotated with one."""
    name, annotation = parameter.name, parameter.annotation
    why = "names what is not there when the program runs"
    if not isinstance(annotation, str):
        if not typed.is_typed(annotation):
            return
        if not typed.has_pydantic():
            refusal = LoadError(
                f"parameter `{name}` is annotated `{typed.display(annotation)}`, and `pydantic`, which converts a "
                "column's values to that type, is not installed\n"
                f"hint: run `{sys.executable} -m pip install pydantic`, or annotate it as `str`"
            )
            if parameter.default is parameter.empty:
                raise refusal
            # A parameter with a default may not be meant for a column.
            predictor.types.append((name, typed.Missing(annotation, refusal)))
            return
        try:
            predictor.types.append((name, typed.Typed(annotation)))
            return
        except typed.Untyped as error:
            annotation, why = typed.display(annotation), f"is nothing that pydantic can make ({error})"
    # A parameter with a default is rarely meant for a column.
    if parameter.default is parameter.empty:
        predictor.cautions.append(
            f"the annotation `{annotation}` of the parameter `{name}` {why}: the column's values are passed as they are"
        )


def find(spec: str, loop: asyncio.AbstractEventLoop) -> tuple[Any, str | None]:
    """Imports what SPEC names outside any task, as a script is run. A class is instantiated inside the loop.

    Returns the target and the file it came from.
    """
    target, source = resolve(spec)
    return instance(target, loop), source


def instance(target: Any, loop: asyncio.AbstractEventLoop) -> Any:
    """The target, or an instance of it, made inside the loop, if it is a class."""
    if not inspect.isclass(target):
        return target

    async def instantiate() -> Any:
        return target()

    return loop.run_until_complete(instantiate())


def named(target: Any) -> Any:
    """What gives a predictor its name: a function or method, what a partial is made of, or the class of an object."""
    while issubclass(type(target), functools.partial):
        target = target.func
    module = module_of(target)
    target = target if module is None else module
    return target if type(getattr(target, "__qualname__", None)) is str else type(target)


def describe(target: Any, source: str | None, kind: str | None) -> Predictor:
    """How the target is called and what it takes. `kind` says what it is if that cannot be seen from the target."""
    call = target
    if not inspect.isroutine(target) and callable(getattr(target, "acall", None)):
        call = target.acall
    if not callable(call):
        raise LoadError(f"the predictor is a value of type {type(target).__name__}, which cannot be called")
    body = call if inspect.isroutine(call) or hasattr(call, "func") else type(call).__call__
    if inspect.isgeneratorfunction(body):
        raise LoadError("the predictor is a generator\nhint: make it an `async def`; its chunks are joined")
    if inspect.isasyncgenfunction(body):
        predictor = Predictor(joined(call), kind or "async generator", source, streaming=True)
    elif inspect.iscoroutinefunction(body):
        predictor = Predictor(call, kind or "async function", source)
    else:
        predictor = Predictor(call, kind or "function on threads", source, threaded=True)
    _take_parameters(predictor, call)
    if not (predictor.parameters or predictor.takes_all or predictor.offered):
        raise LoadError(
            "the predictor takes no argument: every row would be the same call"
            "\nhint: give it a parameter named after a column, such as `question`"
        )
    return predictor


def explain(error: BaseException) -> str:
    """The text of a refusal. Ours is kept as it is; any other error has its traceback trimmed to the user's lines."""
    if isinstance(error, LoadError):
        return str(error)
    text = traces.full(error)
    return (f"Python says:\n{text}" if "\n" in text else text) + _remedy(error)


def _remedy(error: BaseException) -> str:
    if isinstance(error, ModuleNotFoundError) and error.name:
        package, python = error.name.partition(".")[0], sys.executable
        searched = brought.searched()
        if package != error.name:
            # A job that was refused has taken out its modules by now.
            beside = [os.path.join(directory, package) for directory in searched]
            found = getattr(sys.modules.get(package), "__path__", filter(os.path.isdir, beside))
            places = [os.path.abspath(place) for place in found]
            if places or package in sys.modules:
                return f"\nhint: `{package}` was found in {_quoted(places)}" if places else ""
        looked = f"; a module of your own is looked for in {_quoted(searched)}" if searched else ""
        return f"\nhint: install `{package}` for `{python}`, or choose another interpreter with `--python`{looked}"
    if isinstance(error, ImportError) and traces.message(error).startswith("attempted relative import"):
        return "\nhint: add an `__init__.py` to each directory of the package, or give `package.module:name`"
    if isinstance(error, RuntimeError) and traces.message(error) == "no running event loop":
        return "\nhint: the file is loaded before the event loop runs: ask for the loop inside the `async def`"
    return ""


def _quoted(names: list[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)
