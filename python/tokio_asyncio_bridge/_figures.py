"""The parts of a report: its JSON with types. The names are those of `schema/report.schema.json`.

Fields that end in `_s` are seconds, those that end in `_ms` milliseconds, those that end in `_ns` nanoseconds.
"""

import types
from dataclasses import MISSING, dataclass, field, fields
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class RowCounts:
    """The rows that the last session selected: `total` = `ok` + `failed` + `unfinished`.

    Attributes:
        total: Rows selected.
        ok: Rows answered.
        failed: Rows whose latest outcome is a failure.
        failed_by_class: The failed rows by the class of their error.
        skipped: Rows of the input outside the selection, and empty rows at its end.
        unfinished: Rows without an outcome.
        resumed: Rows that earlier sessions answered, counted in `ok`.
        cut_off: Answers cut off at the model's token limit, counted in `ok`.
    """

    total: int
    ok: int
    failed: int
    failed_by_class: dict[str, int]
    skipped: int
    unfinished: int
    resumed: int
    cut_off: int = 0


@dataclass(frozen=True, slots=True)
class AttemptCounts:
    """Calls of the predictor.

    Attributes:
        total: Calls made.
        retries: Calls after the first of a row in a session.
        timeouts: Calls that timed out.
        abandoned: Calls that ignored their cancellation and kept running.
        first_try_ok: Rows answered by their first call.
        by_error: Failed calls by class.
        by_status: Failed calls by the HTTP status of the server, as far as it is known.
    """

    total: int
    retries: int
    timeouts: int
    abandoned: int
    first_try_ok: int
    by_error: dict[str, int]
    by_status: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Distribution:
    """A summary of durations in milliseconds. Without durations, everything but the count is None."""

    count: int
    min: float | None
    mean: float | None
    p50: float | None
    p90: float | None
    p95: float | None
    p99: float | None
    max: float | None


@dataclass(frozen=True, slots=True)
class Latency:
    """The duration of the last call of each row: of those that gave an answer, and of those that failed."""

    ok: Distribution
    failed: Distribution


@dataclass(frozen=True, slots=True)
class Concurrency:
    """Calls in flight: the most allowed, the mean over the wall time, and the most seen."""

    requested: int
    achieved_mean: float
    achieved_max: int


@dataclass(frozen=True, slots=True)
class TimeSums:
    """Where the rows' time went, in milliseconds summed over the rows.

    Attributes:
        starting: From reading the row until it is taken up.
        paced: Held back by a limit.
        queued: Waiting for a permit.
        running: Running the predictor.
        backoff: Waiting to be retried.
        bridge: Passing calls to the event loop and results back.
        recording: From the outcome until it is recorded.
    """

    starting: float
    paced: float
    queued: float
    running: float
    backoff: float
    bridge: float
    recording: float


@dataclass(frozen=True, slots=True)
class LimitedTimes:
    """For how many seconds rows were held back: by the server, an outage, `rpm` and `tpm`."""

    server: float
    outage: float
    rpm: float
    tpm: float


@dataclass(frozen=True, slots=True)
class JournalFigures:
    """The journal's size in bytes, its syncs, and how long a power cut could at most have lost a recorded outcome."""

    bytes: int
    syncs: int
    longest_unsynced_ms: float


@dataclass(frozen=True, slots=True)
class Tokens:
    """Tokens in and out, and requests to the model.

    Attributes:
        input: Prompt tokens.
        output: Completion tokens.
        calls: Requests to the model.
        untold: Calls that may be billed although their usage is not known.
    """

    input: int
    output: int
    calls: int
    untold: int = 0


@dataclass(frozen=True, slots=True)
class Blocked:
    """A call that kept the event loop from turning: where, for how long, and of which row if that is known."""

    place: str
    ms: float
    row: int | None = None


@dataclass(frozen=True, slots=True)
class EventLoop:
    """The bridge's event loop.

    Attributes:
        name: `asyncio` or `uvloop`.
        max_lag_ms: The longest time for which it did not turn.
        blocked: The calls that blocked it.
    """

    name: str
    max_lag_ms: float
    blocked: list[Blocked]


@dataclass(frozen=True, slots=True)
class Worker:
    """A process that made calls, over all its lives in the last session.

    Attributes:
        rows: Calls that it answered.
        calls: Calls that were made on it.
        deaths: How often it died.
        processor_s: The processor time of its process.
        event_loop_s: The part of it that its event loop's thread used.
        stalled_s: For how long its event loop did not turn, counting gaps over 250 ms.
        memory_bytes: The most resident memory of its process.
        for_suspects: Whether it only made calls of rows that may have ended another worker, one at a time.
    """

    rows: int
    calls: int
    deaths: int
    processor_s: float
    event_loop_s: float
    stalled_s: float
    memory_bytes: int
    for_suspects: bool = False


@dataclass(frozen=True, slots=True)
class PredictorVersion:
    """A predictor as it was in one or several sessions, and the rows whose answers are from these.

    Attributes:
        sha256: The hash of its options, prompts and source files.
        changed: What changed against the version before.
        sessions: When its sessions started.
        answered: How many rows have their answer from these sessions.
        rows: Which: ranges of row ids, the end exclusive; the first 1,000 of them.
    """

    sha256: str
    changed: list[str]
    sessions: list[str]
    answered: int
    rows: list[list[int]]


@dataclass(frozen=True, slots=True)
class RunInfo:
    """What was run, where and when. Secrets in it are masked.

    Attributes:
        argv: The words of the command line; of a call from Python, the function's name and the words of its options.
        input: The path of the input.
        input_sha256: Its hash.
        predictor: The predictor.
        bridge: The bridge that made the calls.
        versions: Versions of this program, of Python and of its packages, by name.
        started_at: When it started, in UTC, as RFC 3339 has it.
        finished_at: When it ended.
        host_cores: Cores that the process may use.
        shard: The shard whose rows were answered, such as `0/4`; None if the input was not divided.
    """

    argv: list[str]
    input: str
    input_sha256: str
    predictor: str
    bridge: str
    versions: dict[str, str]
    started_at: str
    finished_at: str
    host_cores: int
    shard: str | None = None


def built(kind: type[_T], known: dict[str, Any], **further: Any) -> _T:
    """Makes a dataclass, and those inside, of a JSON object. Fields that this version does not know are left out."""
    hints = get_type_hints(kind)
    values = dict(further)
    for part in fields(kind):  # type: ignore[arg-type]
        if part.name in known:
            values[part.name] = _value(hints[part.name], known[part.name])
        elif part.name not in values and part.default is MISSING and part.default_factory is MISSING:
            raise ValueError(f"a report lacks `{part.name}`")
    return kind(**values)


def _value(hint: Any, value: Any) -> Any:
    origin, parts = get_origin(hint), get_args(hint)
    if value is None:
        return None
    if origin in (Union, types.UnionType):
        return _value(next(part for part in parts if part is not type(None)), value)
    if origin is list:
        return [_value(parts[0], item) for item in value]
    if isinstance(hint, type) and hasattr(hint, "__dataclass_fields__"):
        return built(hint, value)
    return value
