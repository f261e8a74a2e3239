"""Runs DSPy modules as predictors: makes their LM, loads saved programs, and wraps each call in a meter.

Retries, timeouts and pace are Rust's business: every LM made here sends exactly one request a call and caches nothing.
"""

import contextlib
import inspect
import logging
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Annotated, Any, get_args

import dspy
from _tokio_asyncio_bridge import (
    dspy_engine,
    dspy_local,
    dspy_meter,
    dspy_provider,
    dspy_replies,
    surroundings,
    touched,
    typed,
)
from _tokio_asyncio_bridge.dspy_meter import Meter, metered
from _tokio_asyncio_bridge.loader import LoadError, look_in, resolve
from pydantic.fields import FieldInfo


class Once(logging.Filter):
    """Lets each warning about a program's fields through once for each job; DSPy repeats it for every row."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: set[str] = set()

    def filter(self, record: logging.LogRecord) -> bool:
        # The third argument of a warning about a value of another type is the value itself, which differs a row.
        args = record.args if isinstance(record.args, tuple) else ()
        said = f"{record.msg}{args[:2]}"
        return said not in self.seen and not self.seen.add(said)


ONCE = Once()
# The settings of a request that an engine of ours is known to send as DSPy's own does.
PLAIN = {"temperature", "max_tokens", "top_p", "n"}


def prepare() -> None:
    """Changes in DSPy what jobs need changed, once for as long as jobs are alive."""
    if touched.first("dspy"):
        touched.filtered("dspy.predict.predict", ONCE)
        dspy_replies.prepare()
        dspy_engine.prepare()
        dspy_meter.prepare()


def make_lm(model: str, api_base: str | None, options: dict[str, Any]) -> dspy.LM:
    """Makes the LM for `--model`: `local` (served at `api_base`) or DSPy's `provider/name`. `options` override.

    Makes no request. Raises ValueError if an OpenAI model has no key, LoadError if nobody knows the provider.
    """
    settings: dict[str, Any] = {"num_retries": 0, "cache": False}
    if model == "local":
        model = dspy_local.MODEL
        settings |= dspy_local.DEFAULTS
        surroundings.bypass("127.0.0.1")
    if api_base is not None:
        settings["api_base"] = api_base
    settings |= options

    provider = model.partition("/")[0]
    variable = f"{provider.upper()}_API_KEY"
    if "api_key" not in settings and not os.environ.get(variable):
        if settings.get("api_base") is not None:
            settings["api_key"] = "none"
        elif provider == "openai":
            raise ValueError(
                f"`{model}` needs a key\nhint: set `{variable}`, or `--api-base` for a server without keys"
            )
    given = ("--lm api_key=", settings["api_key"]) if "api_key" in settings else (variable, os.environ.get(variable))
    surroundings.require_key(*given)
    lm = dspy.LM(model, **settings)
    dspy_provider.require_known(lm)
    surroundings.require_proxy(settings.get("api_base") or f"https://api.{provider}.com")
    return lm


def make_module(signature: str, local: bool) -> tuple[dspy.Module, str | None]:
    """Makes the default predictor, `dspy.ChainOfThought(signature)`.

    Returns it, and the file that defines its signature if that is a class. DSPy raises for a malformed signature.
    """
    found, source = _signature_class(signature)
    module = dspy.ChainOfThought(found or signature)
    fields = set(module.predict.signature.fields)
    if local and fields == set(dspy_local.DEMOS[0].keys()):
        module.predict.demos = [demo.with_inputs("question") for demo in dspy_local.DEMOS]
    return module, source


def _signature_class(signature: str) -> tuple[type[dspy.Signature] | None, str | None]:
    """The class that `module:Class` or `path/to/file.py:Class` names, and its file.

    Both are None for a signature that is written out as fields.
    """
    if "->" in signature or not signature.rpartition(":")[2].isidentifier() or ":" not in signature:
        return None, None
    found, source = resolve(signature)
    if not (isinstance(found, type) and issubclass(found, dspy.Signature)):
        raise LoadError(
            f"`{signature}` is no `dspy.Signature`\nhint: name a class such as `class Ask"
            "(dspy.Signature)`, or give the fields: `question -> answer`"
        )
    return found, source


def load_program(path: Path, keep_lms: bool) -> dspy.Module:
    """Loads the module that `module.save(directory, save_program=True)` wrote, with its models if they are to be kept.

    It is a pickle, which can run any code: whoever names it trusts it, as they trust a predictor's file.
    """
    look_in(os.getcwd())
    try:
        module = dspy.load(str(path), allow_pickle=True)
    except ModuleNotFoundError:
        raise
    except Exception as error:
        raise LoadError(
            f"`{path}` is no saved program: {type(error).__name__}: {error}\n"
            "hint: name a directory that `program.save('directory', save_program=True)` wrote"
        ) from None
    if not isinstance(module, dspy.Module):
        raise LoadError(f"`{path}` holds a value of type {type(module).__name__}, and no `dspy.Module`")
    _take_lms(module, keep_lms)
    return module


def _take_lms(module: dspy.Module, keep: bool) -> None:
    if not keep:
        for predictor in module.predictors():
            predictor.lm = None


def take_program(module: dspy.Module, path: Path, keep_lms: bool) -> None:
    """Gives the module the state that `module.save("….json")` wrote, with the models it names if they are to be kept.

    A pickle is refused, because it can run any code.
    """
    if path.suffix != ".json":
        raise LoadError(
            f"`{path}` is no `.json` file\nhint: save the program with `program.save('program.json')`, "
            "or as a directory with `save_program=True`"
        )
    try:
        module.load(path, allow_pickle=False)
    except Exception as error:
        kind = type(module).__name__
        raise LoadError(
            f"`{path}` is no saved state of this `{kind}`: {type(error).__name__}: {error}\n"
            "hint: load it into a program of the signatures and parts it was saved from"
        ) from None
    _take_lms(module, keep_lms)


def brings_lm(module: dspy.Module) -> bool:
    """Whether the user's file chose a model, by `dspy.configure(lm=…)` or by an LM on each predictor."""
    predictors = module.predictors()
    return dspy.settings.lm is not None or bool(predictors and all(predictor.lm for predictor in predictors))


def wrap(target: Any, module: dspy.Module, lm: dspy.LM | None, local: bool, calls: int) -> "Predictor":
    """Wraps the module as a predictor that asks `lm`, or the model that the user's file chose if it is None.

    `calls` is how many calls are in flight at most. The result is an async callable; a plain one if the module has only
    a synchronous `forward`; an async generator if the target is what `dspy.streamify` made of the module.
    """
    dspy_engine.lift_limit(calls)
    ONCE.seen.clear()
    chosen = lm or dspy.settings.lm
    if plain_requests(module):
        chosen = dspy_engine.tuned(chosen, calls)
    adapter = adapter_for(local)
    if target is not module:
        return StreamPredictor(module, chosen, adapter, target)
    kind = AsyncPredictor if hasattr(type(module), "aforward") else Predictor
    return kind(module, chosen, adapter)


def plain_requests(module: dspy.Module) -> bool:
    """Whether every predictor within the module makes do with the settings in `PLAIN`."""
    return all(predictor.config.keys() <= PLAIN for predictor in module.predictors())


def reads_history(module: dspy.Module) -> bool:
    """Whether code other than DSPy's own may read the LM's history during a call."""
    parts = [module, *(part for _, part in module.named_sub_modules())]
    return any(type(part).__module__.partition(".")[0] != "dspy" for part in parts)


def outputs(module: dspy.Module) -> list[str]:
    """The fields of the module's answers; empty if code of the user's own decides."""
    if type(module) not in (dspy.Predict, dspy.ChainOfThought):
        return []
    return list(module.predictors()[0].signature.output_fields)


def adapter_for(local: bool) -> dspy.Adapter:
    """The adapter that the user's file configured, or the one that sends exactly one request a call."""
    own = dspy_local.LocalAdapter() if local else dspy.ChatAdapter(use_json_adapter_fallback=False)
    return dspy.settings.adapter or own


class Predictor:
    """Calls a module with keyword arguments, which `inspect.signature` reports."""

    def __init__(self, module: dspy.Module, lm: dspy.LM | None, adapter: dspy.Adapter) -> None:
        self.module = module
        self.lm = lm
        self.adapter = adapter
        own = dspy_engine.is_tuned(lm) and not any(part.lm for part in module.predictors())
        self.keep_history = not own or reads_history(module)
        self.__signature__ = signature_of(module)

    def metered(self) -> contextlib.AbstractContextManager[Meter]:
        return metered(self.lm, self.adapter, self.keep_history)

    def __call__(self, **arguments: Any) -> Any:
        with self.metered() as meter:
            return meter.mark(self.module(**arguments))


class AsyncPredictor(Predictor):
    """Awaits the module on the event loop."""

    async def __call__(self, **arguments: Any) -> Any:
        with self.metered() as meter:
            return meter.mark(await self.module.acall(**arguments))


class StreamPredictor(Predictor):
    """Passes on what a streamified program yields; its prediction comes last."""

    def __init__(self, module: dspy.Module, lm: dspy.LM | None, adapter: dspy.Adapter, stream: Any) -> None:
        super().__init__(module, lm, adapter)
        self.stream = stream

    async def __call__(self, **arguments: Any) -> AsyncIterator[Any]:
        with self.metered() as meter:
            async for chunk in self.stream(**arguments):
                yield meter.mark(chunk) if isinstance(chunk, dspy.Prediction) else chunk


def lend(target: Any, lm: dspy.LM, local: bool, calls: int) -> Any:
    """Wraps a function, or the `acall` of an object, so that DSPy's settings within its calls hold `lm`."""
    dspy_engine.lift_limit(calls)
    if not inspect.isroutine(target) and callable(getattr(target, "acall", None)):
        target = target.acall
    adapter = adapter_for(local)
    body = target if inspect.isroutine(target) or hasattr(target, "func") else type(target).__call__
    if inspect.isasyncgenfunction(body):

        async def lent(**arguments: Any) -> AsyncIterator[Any]:
            with metered(lm, adapter):
                async for chunk in target(**arguments):
                    yield chunk

    elif inspect.iscoroutinefunction(body):

        async def lent(**arguments: Any) -> Any:
            with metered(lm, adapter) as meter:
                return meter.mark(await target(**arguments))

    else:

        def lent(**arguments: Any) -> Any:
            with metered(lm, adapter) as meter:
                return meter.mark(target(**arguments))

    lent.__signature__ = typed.signature(target)
    lent.lm, lent.adapter = lm, adapter
    return lent


def signature_of(module: dspy.Module) -> inspect.Signature:
    """The module's parameters: those that its `forward` names, or the input fields of its DSPy signature."""
    # The lookup is on the class, because DSPy warns of every access to `forward` on an instance.
    forward = getattr(type(module), "aforward", None) or type(module).forward
    declared = typed.signature(forward.__get__(module))
    predictors = module.predictors()
    source = getattr(module, "signature", None) or (predictors[0].signature if len(predictors) == 1 else None)
    variadic = (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL)
    if source is None or any(parameter.kind not in variadic for parameter in declared.parameters.values()):
        return declared
    return inspect.Signature([parameter(name, field) for name, field in source.input_fields.items()])


def parameter(name: str, field: FieldInfo) -> inspect.Parameter:
    """The parameter that an input field stands for."""
    if not field.is_required():
        default = field.get_default()
    else:
        default = None if type(None) in get_args(field.annotation) else inspect.Parameter.empty
    kind = Annotated[(field.annotation, *field.metadata)] if field.metadata else field.annotation
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=kind)
