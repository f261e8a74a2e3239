"""Runs DSPy modules as predictors: the LM, a metered context for each call, the local model's adapter.

Retries, timeouts and pace are Rust's: every LM made here sends exactly one request a call and caches nothing.
"""

import contextlib
import inspect
import logging
import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Annotated, Any, NamedTuple, get_args

# DSPy and LiteLLM would otherwise download their price table during the first call.
os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")

import dspy
import pydantic
from _tokio_asyncio_bridge import dspy_engine, dspy_provider, dspy_replies, surroundings, typed
from _tokio_asyncio_bridge.failure import FAULT, request_id
from _tokio_asyncio_bridge.loader import LoadError, look_in, resolve
from _tokio_asyncio_bridge.results import Told
from dspy.clients import base_lm
from dspy.utils.usage_tracker import UsageTracker
from pydantic.fields import FieldInfo

LOCAL_MODEL = "openai/SmolLM2-135M-Instruct"
# The local model's own limits: characters of a text, items of a list, and enough tokens that these end first.
LONGEST_TEXT = 200
LONGEST_LIST = 5
# The key keeps an `OPENAI_API_KEY` of the environment from being sent to it.
LOCAL_DEFAULTS = {"temperature": 0.0, "max_tokens": 1024, "engine": "lm15", "api_key": "none"}
# DSPy keeps the last 10,000 requests with their messages; a job of any length must not grow with them.
HISTORY = 100
base_lm.MAX_HISTORY_SIZE = HISTORY


class Once(logging.Filter):
    """Lets a warning about a program's fields through once: DSPy gives it again for every row."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: set[str] = set()

    def filter(self, record: logging.LogRecord) -> bool:
        # Of a value that has another type, the value comes last.
        args = record.args if isinstance(record.args, tuple) else ()
        said = f"{record.msg}{args[:2]}"
        return said not in self.seen and not self.seen.add(said)


logging.getLogger("dspy.predict.predict").addFilter(Once())
# What a part of a program may ask of the model beside its messages, to be sent by an engine of ours.
PLAIN = {"temperature", "max_tokens", "top_p", "n"}
# The attribute that carries a call's Usage on an exception.
MARK = "_bridge_usage"

# A model this small answers much better, and shorter, after two examples.
DEMOS = [
    dspy.Example(
        question="What is the capital of Spain?", reasoning="The capital of Spain is Madrid.", answer="Madrid"
    ),
    dspy.Example(question="What is 1+1?", reasoning="One plus one is two.", answer="2"),
]


class Usage(NamedTuple):
    """What the requests of one call used, failed ones too; `cost_usd` is None where no price is known."""

    input_tokens: int
    output_tokens: int
    calls: int
    cost_usd: float | None
    # Why the model ended its last reply.
    finish_reason: str | None
    # The server's own name of the last request.
    request_id: str | None


def make_lm(model: str, api_base: str | None, options: dict[str, Any]) -> dspy.LM:
    """The LM for `--model`: `local` (served at `api_base`) or DSPy's `provider/name`. `options` come first.

    Raises ValueError before any request when an OpenAI model has no key, LoadError when nobody knows the provider.
    """
    settings: dict[str, Any] = {"num_retries": 0, "cache": False}
    if model == "local":
        model = LOCAL_MODEL
        settings |= LOCAL_DEFAULTS
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
    """The default predictor, `dspy.ChainOfThought(signature)`, and the file its signature is from, if it is a class.

    DSPy raises for a malformed signature.
    """
    found, source = _signature_class(signature)
    module = dspy.ChainOfThought(found or signature)
    fields = set(module.predict.signature.fields)
    if local and fields == set(DEMOS[0].keys()):
        module.predict.demos = [demo.with_inputs("question") for demo in DEMOS]
    return module, source


def _signature_class(signature: str) -> tuple[type[dspy.Signature] | None, str | None]:
    """What `module:Class` or `path/to/file.py:Class` names, and its file; nothing for a signature in words."""
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
    """The module that `module.save(directory, save_program=True)` wrote, its models too if they are to be kept.

    It is a pickle, which can run anything: whoever names it trusts it, as a predictor's file.
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
    """Gives the module the state that `module.save("….json")` wrote, the models it names too if they are to be kept.

    A pickle, which can run anything, is refused.
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
    """Whether the user's file chose a model: `dspy.configure(lm=…)`, or an LM on each predictor."""
    predictors = module.predictors()
    return dspy.settings.lm is not None or bool(predictors and all(predictor.lm for predictor in predictors))


def wrap(target: Any, module: dspy.Module, lm: dspy.LM | None, local: bool, calls: int) -> "Predictor":
    """The module as a predictor asking `lm` (None: the one the user's file chose), so many calls at once.

    The result is an async callable, a plain one if the module has only a synchronous `forward`, or an async generator
    if the target is what `dspy.streamify` made of the module.
    """
    dspy_engine.lift_limit(calls)
    chosen = lm or dspy.settings.lm
    if plain_requests(module):
        chosen = dspy_engine.tuned(chosen, calls)
    adapter = adapter_for(local)
    if target is not module:
        return StreamPredictor(module, chosen, adapter, target)
    kind = AsyncPredictor if hasattr(type(module), "aforward") else Predictor
    return kind(module, chosen, adapter)


def plain_requests(module: dspy.Module) -> bool:
    """Whether no part of it asks for more than an engine of ours is known to carry."""
    return all(predictor.config.keys() <= PLAIN for predictor in module.predictors())


def reads_history(module: dspy.Module) -> bool:
    """Whether code that is not DSPy's own may look at the LM's history during a call."""
    parts = [module, *(part for _, part in module.named_sub_modules())]
    return any(type(part).__module__.partition(".")[0] != "dspy" for part in parts)


def outputs(module: dspy.Module) -> list[str]:
    """The fields of its answers; none where its own code decides."""
    if type(module) not in (dspy.Predict, dspy.ChainOfThought):
        return []
    return list(module.predictors()[0].signature.output_fields)


def adapter_for(local: bool) -> dspy.Adapter:
    """The adapter that the user's file configured, or the one that sends exactly one request a call."""
    return dspy.settings.adapter or (LocalAdapter() if local else dspy.ChatAdapter(use_json_adapter_fallback=False))


class Predictor:
    """Calls a module with keyword arguments; `inspect.signature` of it tells which."""

    def __init__(self, module: dspy.Module, lm: dspy.LM | None, adapter: dspy.Adapter) -> None:
        self.module = module
        self.lm = lm
        self.adapter = adapter
        own = dspy_engine.is_tuned(lm) and not any(part.lm for part in module.predictors())
        self.keep_history = not own or reads_history(module)
        self.__signature__ = signature_of(module)

    def metered(self) -> contextlib.AbstractContextManager["Meter"]:
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
    """Passes on what a streamified program yields, its prediction last."""

    def __init__(self, module: dspy.Module, lm: dspy.LM | None, adapter: dspy.Adapter, stream: Any) -> None:
        super().__init__(module, lm, adapter)
        self.stream = stream

    async def __call__(self, **arguments: Any) -> AsyncIterator[Any]:
        with self.metered() as meter:
            async for chunk in self.stream(**arguments):
                yield meter.mark(chunk) if isinstance(chunk, dspy.Prediction) else chunk


def lend(target: Any, lm: dspy.LM, local: bool, calls: int) -> Any:
    """The function, or the `acall` of an object, with `lm` in the DSPy settings its calls see."""
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


@contextlib.contextmanager
def metered(lm: dspy.LM | None, adapter: dspy.Adapter, keep_history: bool = True) -> Iterator["Meter"]:
    """One call's own DSPy settings, unseen by other tasks. Marks an exception that leaves with its usage and with
    what was wrong with the last reply: it may be its reader's.

    With the history kept, the call's LM is its own, so that its code finds there what it asked for itself.
    """
    meter = Meter()
    chosen = lm or dspy.settings.lm
    with dspy.context(
        lm=chosen.copy() if chosen and keep_history else chosen,
        adapter=adapter,
        usage_tracker=meter,
        caller_modules=[meter],
        max_history_size=HISTORY,
        disable_history=not keep_history or dspy.settings.disable_history,
    ):
        try:
            yield meter
        except BaseException as exc:
            with contextlib.suppress(Exception):
                setattr(exc, MARK, meter.total())
                setattr(exc, FAULT, meter.fault)
            raise


class EmptyPrediction(Exception):
    """The model's reply held nothing to predict from."""


class Meter(UsageTracker):
    """Adds up a call's requests: DSPy tells usage to a tracker, but prices only to an engine or the history."""

    def __init__(self) -> None:
        super().__init__()
        self.costs: list[float] = []
        self.finish_reason: str | None = None
        self.request_id: str | None = None
        self.fault: dspy_replies.Fault | None = None
        self.history = History(self)

    def note(self, cost: float | None, finish_reason: str | None, fault: dspy_replies.Fault | None) -> None:
        """What one response cost, in US dollars where that is known, why it ended, and what is wrong with it."""
        self.fault = fault
        if cost is not None:
            self.costs.append(cost)
        self.finish_reason = finish_reason

    def mark(self, result: Any) -> Any:
        """The result with its usage beside it; one that is yet to be awaited as it is.

        Of a reply without choices DSPy makes a prediction without fields, where it came through LiteLLM.
        """
        if self.fault and isinstance(result, dspy.Prediction) and not result.keys():
            raise EmptyPrediction(self.fault[1])
        return result if inspect.isawaitable(result) else Told(result, self.total())

    def total(self) -> Usage | None:
        requests = [entry for entries in self.usage_data.values() for entry in entries]
        if not requests:
            return None
        return Usage(
            sum(entry.get("prompt_tokens") or 0 for entry in requests),
            sum(entry.get("completion_tokens") or 0 for entry in requests),
            len(requests),
            sum(self.costs) if len(self.costs) == len(requests) else None,
            self.finish_reason,
            self.request_id,
        )


class History:
    """A history that keeps nothing and is never full: it tells the meter of responses by engines not ours."""

    def __init__(self, meter: Meter) -> None:
        self.meter = meter

    def __len__(self) -> int:
        return 0

    def append(self, entry: dict[str, Any]) -> None:
        cost, reason = entry["cost"], finish_reason(entry["response"])
        self.meter.request_id = request_id(entry["response"])
        self.meter.fault = fault = dspy_replies.fault(entry["response"])
        # Of an engine of ours the reason is known already, and the cost never stands here.
        if cost is not None or reason != self.meter.finish_reason:
            # An answer from DSPy's cache has a price but no usage: it was paid for earlier.
            self.meter.note(cost if entry["usage"] else None, reason, fault)


def finish_reason(response: Any) -> str | None:
    """Of the last candidate: DSPy keeps its own responses, or LiteLLM's as it is."""
    last = (response if isinstance(response, (list, tuple)) else getattr(response, "choices", None) or [None])[-1]
    reason = getattr(last, "finish_reason", None)
    return reason if isinstance(reason, str) else None


def signature_of(module: dspy.Module) -> inspect.Signature:
    """The module's parameters: those its `forward` names, or the input fields of its DSPy signature."""
    # Looked up on the class: DSPy warns of whoever touches the instance's `forward`.
    forward = getattr(type(module), "aforward", None) or type(module).forward
    declared = typed.signature(forward.__get__(module))
    predictors = module.predictors()
    source = getattr(module, "signature", None) or (predictors[0].signature if len(predictors) == 1 else None)
    variadic = (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL)
    if source is None or any(parameter.kind not in variadic for parameter in declared.parameters.values()):
        return declared
    return inspect.Signature([parameter(name, field) for name, field in source.input_fields.items()])


def parameter(name: str, field: FieldInfo) -> inspect.Parameter:
    if not field.is_required():
        default = field.get_default()
    else:
        default = None if type(None) in get_args(field.annotation) else inspect.Parameter.empty
    kind = Annotated[(field.annotation, *field.metadata)] if field.metadata else field.annotation
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=kind)


class LocalAdapter(dspy.JSONAdapter):
    """Holds the local model to the signature's JSON schema, a grammar to its server: all output parses."""

    async def acall(
        self, lm: dspy.LM, lm_kwargs: dict[str, Any], signature: Any, demos: list[Any], inputs: dict[str, Any]
    ) -> list[dict[str, Any]]:
        return await super().acall(lm, constrained(lm_kwargs, signature), signature, demos, inputs)

    def __call__(
        self, lm: dspy.LM, lm_kwargs: dict[str, Any], signature: Any, demos: list[Any], inputs: dict[str, Any]
    ) -> list[dict[str, Any]]:
        return super().__call__(lm, constrained(lm_kwargs, signature), signature, demos, inputs)


def constrained(lm_kwargs: dict[str, Any], signature: Any) -> dict[str, Any]:
    outputs = {name: (field.annotation, ...) for name, field in signature.output_fields.items()}
    schema = pydantic.create_model("Outputs", **outputs).model_json_schema()
    bound(schema)
    form = {"type": "json_schema", "json_schema": {"name": "outputs", "schema": schema, "strict": True}}
    return {**lm_kwargs, "response_format": form}


def bound(schema: Any) -> None:
    """Bounds every text and list of a JSON schema, so that an answer ends before the token limit cuts it."""
    if isinstance(schema, dict):
        if schema.get("type") == "string" and not schema.keys() & {"enum", "const", "pattern", "format"}:
            schema |= {"minLength": 1, "maxLength": LONGEST_TEXT}
        elif schema.get("type") == "array":
            schema |= {"maxItems": LONGEST_LIST}
        for part in schema.values():
            bound(part)
    elif isinstance(schema, list):
        for part in schema:
            bound(part)
