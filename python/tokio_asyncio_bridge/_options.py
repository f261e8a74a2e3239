"""The options of the command line as typed keywords, and their Python values as its words.

The library parses the words, so that units, ranges and messages are the same as on the command line.
"""

import difflib
import json
import os
import types
from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta
from numbers import Integral, Real
from typing import Any, Literal, TypeAlias, TypedDict, Union, get_args, get_origin, get_type_hints

from tokio_asyncio_bridge._errors import UsageError

# Seconds, or a text with a unit such as `500ms`, `30s` or `5m`.
Duration: TypeAlias = float | timedelta | str
# A path of a file.
File: TypeAlias = str | os.PathLike[str]
# Rows counted from 0, the end exclusive: `range(0, 100)` or `"0:100"`.
Rows: TypeAlias = range | str
# Shard K of N, K counted from 0: `"0/4"` or `(0, 4)`. `"auto/4"` takes K from the scheduler's variable.
Shard: TypeAlias = str | tuple[int, int]
# Arguments of the language model. Values are JSON's; one whose name says that it is a secret is never written down.
LmArguments: TypeAlias = Mapping[str, Any]
# Columns by the parameters that they are for.
Columns: TypeAlias = Mapping[str, str]
# Amounts by the names of what they are of.
Amounts: TypeAlias = Mapping[str, float]
# Names in their order, such as the columns of the answers.
Names: TypeAlias = Sequence[str]
Format: TypeAlias = Literal["csv", "jsonl"]


class CallOptions(TypedDict, total=False):
    """The options about the predictor and its calls. `docs/options.md` describes each.

    Durations are in seconds, or `timedelta`, or a text with a unit such as `500ms`.
    """

    # Predictor
    model: str
    api_base: str
    lm: LmArguments
    event_loop: Literal["auto", "asyncio", "uvloop"]
    # Pace
    rpm: int
    tpm: int
    # Time
    timeout: Duration
    row_timeout: Duration
    deadline: Duration
    grace: Duration
    # Retry
    retries: int
    backoff: Duration
    backoff_max: Duration
    cut_off: Literal["keep", "fail"]
    # Stop
    max_failures: int | str
    # Money
    price_in: float
    price_out: float
    max_cost: float
    max_total_tokens: int


class ArgumentOptions(TypedDict, total=False):
    """The options about the arguments of a predictor, and about the predictor `dspy`."""

    # Predictor
    signature: str
    program: File
    # Rows
    column: str
    map: Columns


class PaceOptions(TypedDict, total=False):
    """How many calls are in flight."""

    concurrency: int
    sequential: bool
    concurrent: bool


class WorkerOptions(TypedDict, total=False):
    """The options about the processes that make the calls. `are_elsewhere` looks at them."""

    workers: int | Literal["auto"]
    worker_max_rss: str


class RayOptions(TypedDict, total=False):
    """The options about a Ray cluster. `are_elsewhere` looks at them."""

    ray: bool | str
    ray_actors: int
    ray_cpus: float
    ray_gpus: float
    ray_resources: Amounts
    ray_runtime_env: File
    ray_env: Names


class FileOptions(TypedDict, total=False):
    """The options about the files of a job that is begun or continued."""

    # Output
    fields: Names
    html: bool
    no_html: bool
    private: bool
    # Files
    allow_changed: bool
    force: bool
    skip_failed: bool


class MapOptions(CallOptions, ArgumentOptions, PaceOptions, WorkerOptions, RayOptions, total=False):
    """The options of `map` and `stream`."""


class JournalOptions(MapOptions, FileOptions, total=False):
    """The options of `map`. Those about files are for a run with a journal."""


class EvaluateOptions(CallOptions, PaceOptions, WorkerOptions, RayOptions, FileOptions, total=False):
    """The options of `evaluate`. Those about files are for a run with a journal."""


class JobOptions(CallOptions, ArgumentOptions, WorkerOptions, RayOptions, total=False):
    """The options that all calls take that run a predictor on the rows of a file."""

    # Predictor
    env_file: File
    # Rows
    id_column: str
    limit: int
    range: Rows
    shard: Shard
    delimiter: str
    encoding: str
    format: Format
    # Output
    private: bool


class RunOptions(JobOptions, PaceOptions, total=False):
    """The options that `process` and `resume` share."""

    # Output
    fields: Names
    html: bool
    no_html: bool
    # Files
    allow_changed: bool


class ProcessOptions(RunOptions, total=False):
    """The options of `process` and `estimate`."""

    force: bool
    skip_failed: bool


class ResumeOptions(RunOptions, total=False):
    """The options of `resume`."""

    only: Literal["failed", "unfinished"]


class CompareOptions(JobOptions, total=False):
    """The options of `compare`."""

    sequential: bool
    concurrent: bool
    concurrency: int | Sequence[int]
    runs: int
    export_json: File
    export_markdown: File
    force: bool


class VerifyOptions(TypedDict, total=False):
    """The options of `verify`."""

    range: Rows
    shard: Shard
    delimiter: str
    encoding: str
    format: Format


class ExportOptions(TypedDict, total=False):
    """The options of `export`."""

    fields: Names
    force: bool


def are_elsewhere(given: Mapping[str, object]) -> bool:
    """Whether other processes make the calls, so that rows and answers cross as values that JSON holds."""
    return str(given.get("workers") or 0) != "0" or given.get("ray") not in (None, False, "none")


# Switches that are opposites of each other: the one that is off turns the other on.
_OPPOSITES = {"html": "no_html", "no_html": "html", "sequential": "concurrent", "concurrent": "sequential"}

_SAID = {
    bool: "True or False",
    float: "a number",
    int: "a whole number",
    os.PathLike: "a path",
    range: "a range",
    str: "a text",
    timedelta: "a timedelta",
    tuple: "a tuple of two numbers",
    Mapping: "a mapping",
    Sequence: "a list",
}

Words: TypeAlias = list[tuple[str, str]]


def checked(function: str, given: Mapping[str, object], known: type, also: Sequence[str] = ()) -> dict[str, Any]:
    """The options that were given, without those that are None. `also` are the function's own keywords.

    Raises TypeError if there is no such option, or if a value is of a type that it does not take.
    """
    hints = get_type_hints(known)
    for name, value in given.items():
        if name not in hints:
            near = difflib.get_close_matches(name, [*hints, *also], n=1)
            meant = f"; did you mean `{near[0]}`?" if near else ""
            raise TypeError(f"{function}() got an unexpected keyword argument `{name}`{meant}")
        if value is not None and not _fits(value, hints[name]):
            raise TypeError(f"`{name}=` takes {_said(hints[name])}, not {type(value).__name__}")
    return {name: value for name, value in given.items() if value is not None}


def words(options: Mapping[str, Any]) -> Words:
    """The words of options that were checked, each with its name."""
    return [word for name, value in options.items() for word in _words(name, value)]


def _words(name: str, value: object) -> Iterator[tuple[str, str]]:
    match value:
        case bool() if name in _OPPOSITES:
            yield (name if value else _OPPOSITES[name], "true")
        case bool():
            yield name, str(value).lower()
        case str():
            yield name, value
        case timedelta():
            yield name, _duration(value / timedelta(seconds=1))
        case range():
            if value.step != 1:
                raise UsageError(f"`{name}=` takes a range without gaps, not {value!r}")
            yield name, f"{value.start}:{value.stop}"
        case tuple() if name == "shard":
            yield name, "/".join(map(str, value))
        case Mapping():
            for key, item in value.items():
                yield name, f"{key}={_item(item) if name == 'lm' else item}"
        case os.PathLike():
            yield name, os.fspath(value)
        case Sequence() if name == "fields":
            for item in value:
                if "," in item:
                    raise UsageError(f"`{name}=` takes names without a comma, not `{item}`\nhint: list each by itself")
            yield name, ",".join(value)
        case Sequence():
            for item in value:
                yield from _words(name, item)
        case Real() if name in _DURATIONS:
            yield name, _duration(float(value))
        case _:
            yield name, str(value)


def _duration(seconds: float) -> str:
    """A duration in the largest unit of which it is a whole number."""
    if not 0 <= seconds < 1e12:
        return f"{seconds}"
    nanoseconds = round(seconds * 1e9)
    for unit, size in (("s", 10**9), ("ms", 10**6), ("us", 10**3)):
        if nanoseconds % size == 0:
            return f"{nanoseconds // size}{unit}"
    return f"{nanoseconds}ns"


def _item(value: object) -> str:
    """A value that is read as JSON where it is JSON. A text that would be is written as JSON."""
    if not isinstance(value, str):
        return json.dumps(value)
    try:
        json.loads(value)
    except ValueError:
        return value
    return json.dumps(value)


def _fits(value: object, hint: Any) -> bool:
    origin = get_origin(hint)
    if origin in (Union, types.UnionType):
        return any(_fits(value, part) for part in get_args(hint))
    if origin is Literal:
        return isinstance(value, str)
    if hint in (int, float):
        return isinstance(value, Integral if hint is int else Real) and not isinstance(value, bool)
    return isinstance(value, origin or hint)


def _said(hint: Any) -> str:
    origin = get_origin(hint)
    if origin is Literal:
        return " or ".join(repr(value) for value in get_args(hint))
    if origin not in (Union, types.UnionType):
        return _SAID[origin or hint]
    if hint == Duration:
        return "seconds, a timedelta or a text such as `30s`"
    return " or ".join(_said(part) for part in get_args(hint))


_DURATIONS = {name for name, hint in get_type_hints(JobOptions).items() if hint == Duration}
