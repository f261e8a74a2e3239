"""The comparison of several modes as an object. The names are those of `schema/compare.schema.json`."""

from dataclasses import dataclass, field
from typing import Any

from tokio_asyncio_bridge._errors import BrokenError, StoppedError
from tokio_asyncio_bridge._figures import LimitedTimes, built
from tokio_asyncio_bridge._html import text


@dataclass(frozen=True, slots=True)
class Speedup:
    """How many times as fast, and the bounds with 95 % confidence; None unless both modes ran at least twice."""

    mean: float
    ci95: list[float] | None


@dataclass(frozen=True, slots=True)
class RunFigures:
    """One run of a mode.

    Attributes:
        wall_s: Seconds from the first call to the last outcome.
        failed: Failed rows.
        attempts: Calls.
        different: Rows whose answer differs from that of the first run of the first mode; None for that run.
        call_ms: The mean time of a call that gave an answer.
        in_flight_mean: Calls running, on average.
        in_flight_max: The most calls in flight.
        limited_s: How long a limit held rows back.
        cpu_s: Processor time of this process and its workers.
        stalled_s: How long the event loop did not turn.
        workers: Worker processes; 0 if this process made the calls.
    """

    wall_s: float
    failed: int
    attempts: int
    different: int | None
    call_ms: float | None
    in_flight_mean: float
    in_flight_max: int
    limited_s: LimitedTimes
    cpu_s: float
    stalled_s: float
    workers: int = 0


@dataclass(frozen=True, slots=True)
class Mode:
    """One mode. Figures are means over its runs.

    Attributes:
        name: `sequential`, `concurrent -c 16`.
        concurrency: The most calls allowed in flight.
        wall_s: The wall time of each run.
        mean_s: Their mean.
        stddev_s: Their standard deviation; None for a single run.
        rows_per_s: Rows per second.
        failed: Failed rows of a run.
        attempts: Calls of a run.
        in_flight_mean: Calls running.
        different: The most rows of a run whose answer differs from that of the first run of the first mode.
        speedup: The speedup over the first mode; None for that one itself.
        ideal_speedup: What concurrency alone could give over the first mode.
        runs: Each run by itself.
    """

    name: str
    concurrency: int
    wall_s: list[float]
    mean_s: float
    stddev_s: float | None
    rows_per_s: float
    failed: float
    attempts: float
    in_flight_mean: float
    different: int
    speedup: Speedup | None
    ideal_speedup: float | None
    runs: list[RunFigures]


@dataclass(frozen=True, repr=False)
class Comparison:
    """The same rows in several modes. Its attributes are the fields of what `export_json` writes.

    Attributes:
        rows: Rows of each run.
        runs_requested: Runs of each mode that were asked for.
        stopped: Why not all of them were made, as JSON; None where they were.
        warm_up: What was called before anything was timed, as JSON.
        modes: The modes that have a finished run; the first is the baseline.
        modes_without_runs: The names of the others.
        speedup: That of the last mode over the first.
        ideal_speedup: What concurrency alone could give.
        warnings: What makes the figures doubtful, and what limited a mode, as JSON.
        cost_usd: The cost of all runs in US dollars; None if no price is known.
        summary: The table that the command line prints.
    """

    rows: int
    runs_requested: int
    stopped: dict[str, Any] | None
    warm_up: dict[str, Any] | None
    modes: list[Mode]
    modes_without_runs: list[str]
    speedup: Speedup | None
    ideal_speedup: float | None
    warnings: list[dict[str, Any]]
    summary: str
    cost_usd: float | None = None
    schema_version: int = 1
    _json: dict[str, Any] = field(default_factory=dict, compare=False)
    _markdown: str = field(default="", compare=False)

    def to_dict(self) -> dict[str, Any]:
        """The comparison as JSON: what `export_json` writes."""
        return dict(self._json)

    def to_markdown(self) -> str:
        """The comparison as a table in Markdown: what `export_markdown` writes."""
        return self._markdown

    def __repr__(self) -> str:
        return self.summary.rstrip()

    def _repr_html_(self) -> str:
        runs = sum(len(mode.runs) for mode in self.modes)
        return text(f"{self.rows:,} rows in {runs:,} runs", self.summary.rstrip())


def comparison_of(result: dict[str, Any]) -> Comparison:
    """The comparison in the result of a run. Raises the error that ended it before its end."""
    known = result["comparison"]
    further = {"summary": result["summary"], "cost_usd": result["cost_usd"]}
    comparison = built(Comparison, known, **further, _json=known, _markdown=result["markdown"])
    if result["broken"] is not None:
        raise BrokenError(result["broken"], called=True, report=comparison)
    if result["killed"]:
        raise StoppedError("the comparison was ended at once", called=True, report=comparison)
    return comparison
