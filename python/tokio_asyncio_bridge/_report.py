"""The timing report of a run as an object."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tokio_asyncio_bridge._errors import BrokenError, StoppedError, in_python
from tokio_asyncio_bridge._figures import (
    AttemptCounts,
    Concurrency,
    Distribution,
    EventLoop,
    JournalFigures,
    Latency,
    LimitedTimes,
    PredictorVersion,
    RowCounts,
    RunInfo,
    TimeSums,
    Tokens,
    Worker,
    built,
)
from tokio_asyncio_bridge._html import table

# Columns before a value in the summary.
_INDENT = 17


@dataclass(frozen=True, repr=False)
class Report:
    """The timing report of a run. Its attributes are the fields of `<answers>.report.json`.

    Attempts, tokens, cost and times add up over all sessions of the run. Attributes that end in `_s` are seconds, those
    that end in `_ms` milliseconds.

    Attributes:
        rows: What became of the rows.
        stopped: Why the run stopped before its last row; None if it did not.
        attempts: Calls of the predictor.
        failures: The first failed attempts, as JSON.
        sessions: Sessions that recorded an outcome or a failed attempt.
        predictor_versions: The predictor's versions, and the rows answered under each.
        wall_s: From the first call to the last outcome, summed over sessions.
        startup_s: Starting the bridge and loading the predictor.
        validate_s: Reading and checking the input.
        project_s: Writing the answers.
        rows_per_s: Rows answered per second of wall time.
        latency_ms: The duration of the last call of each row.
        row_ms: From reading a row to recording its outcome.
        first_chunk_ms: From a call's start to its first chunk.
        concurrency: Calls in flight.
        time_ms: Where the rows' time went, summed over the rows.
        limited_s: How long a limit held rows back.
        journal: The journal's figures.
        tokens: Tokens and requests.
        cost_usd: US dollars, as far as prices are known; None where no price is.
        event_loop: The bridge's event loop.
        workers: The worker processes of the last session; empty where there were none.
        run: What was run.
        answers: The answers file.
        summary: The summary that the command line prints.
    """

    rows: RowCounts
    stopped: str | None
    attempts: AttemptCounts
    wall_s: float
    startup_s: float
    validate_s: float
    project_s: float
    rows_per_s: float
    latency_ms: Latency
    row_ms: Distribution
    first_chunk_ms: Distribution
    concurrency: Concurrency
    time_ms: TimeSums
    limited_s: LimitedTimes
    journal: JournalFigures
    tokens: Tokens
    cost_usd: float | None
    event_loop: EventLoop
    run: RunInfo
    answers: Path
    summary: str
    schema_version: int = 1
    failures: list[dict[str, Any]] = field(default_factory=list)
    sessions: int = 0
    predictor_versions: list[PredictorVersion] = field(default_factory=list)
    workers: list[Worker] = field(default_factory=list)
    _json: dict[str, Any] = field(default_factory=dict, compare=False)

    def to_dict(self) -> dict[str, Any]:
        """The report as JSON: what `<answers>.report.json` holds."""
        return dict(self._json)

    def __repr__(self) -> str:
        return self.summary.partition("\n\nTo answer")[0].rstrip()

    def _repr_html_(self) -> str:
        headline, _, lines = repr(self).partition("\n\n")
        rows: list[tuple[str, str]] = []
        for line in lines.splitlines():
            label, value = line[:_INDENT].strip(), line[_INDENT:]
            # A line without a label belongs to the one before.
            if not label and rows:
                label, value = rows[-1][0], f"{rows.pop()[1]}\n{value}"
            rows.append((label, value))
        return table(headline, rows)


def report_of(result: dict[str, Any]) -> Report:
    """The report in the result of a run. Raises the error that ended the run without one."""
    known = result["report"]
    report = None
    if known is not None:
        further = {"answers": Path(result["answers"]), "summary": result["summary"], "_json": known}
        report = built(Report, {**known, "stopped": known["stopped"] and in_python(known["stopped"])}, **further)
    if result["broken"] is not None:
        raise BrokenError(result["broken"], called=True, report=report)
    if report is None:
        text = "the run was ended at once; what was recorded is safe in the journal\nhint: `resume` goes on"
        raise StoppedError(text, called=True)
    return report
