"""The results of an audit, an export and an estimate as objects."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tokio_asyncio_bridge._figures import built
from tokio_asyncio_bridge._html import table


class _Figures:
    """Shows itself as its lines: a headline, an empty line, and labels with values."""

    def _lines(self) -> tuple[str, list[tuple[str, str]]]:
        raise NotImplementedError

    def __repr__(self) -> str:
        headline, lines = self._lines()
        return "\n".join([headline, *(f"  {label:<15}{value}" for label, value in lines)])

    def _repr_html_(self) -> str:
        headline, lines = self._lines()
        return table(headline, lines)


@dataclass(frozen=True, slots=True)
class Faults:
    """Faults of one kind: how many there are, and the places of the first ones."""

    count: int
    first: list[int]


@dataclass(frozen=True, repr=False)
class Audit(_Figures):
    """What `verify` has found.

    Places are lines of the answers file, those of `missing` 0-based row ids.

    Attributes:
        rows: Rows of the input that were asked for.
        records: Records of the answers file.
        missing: Rows without a record.
        duplicate: Records of rows that have one already.
        foreign: Records that belong to no row of the input.
        drifted: Records that differ from their row in the columns of the input.
        torn: Incomplete records.
        unordered: Records that follow one of a later row.
        altered: Records whose answer differs from the one in the journal.
        unrecorded: Records with an outcome of a row that has none in the journal.
        faults: Faults of all kinds.
        journal: Whether there is a journal. Without one, the answers themselves could not be checked.
        journal_faults: What is wrong with the journal, one sentence each; None without a journal.
    """

    rows: int
    records: int
    missing: Faults
    duplicate: Faults
    foreign: Faults
    drifted: Faults
    torn: Faults
    unordered: Faults
    altered: Faults
    unrecorded: Faults
    faults: int
    journal: bool
    journal_faults: list[str] | None
    _json: dict[str, Any] = field(default_factory=dict, compare=False)

    @property
    def ok(self) -> bool:
        """Whether the answers file has no fault."""
        return self.faults == 0

    def to_dict(self) -> dict[str, Any]:
        """The audit as JSON, as `verify --json` prints it."""
        return dict(self._json)

    def _lines(self) -> tuple[str, list[tuple[str, str]]]:
        found = [(name, value) for name, value in self._json.items() if isinstance(value, dict) and value["count"]]
        lines = [(name, f"{kind['count']:,}, first at {', '.join(map(str, kind['first']))}") for name, kind in found]
        lines += [("journal", fault) for fault in self.journal_faults or []]
        verdict = "no fault" if self.ok else f"{self.faults:,} faults"
        return f"{self.records:,} records for {self.rows:,} rows: {verdict}", lines


@dataclass(frozen=True, repr=False)
class Exported(_Figures):
    """What `export` has written.

    Attributes:
        answers: The file that was written.
        ok: Rows answered.
        failed: Rows that failed.
        unfinished: Rows without an outcome.
    """

    answers: Path
    ok: int
    failed: int
    unfinished: int

    def to_dict(self) -> dict[str, Any]:
        """The result as JSON."""
        counts = {"ok": self.ok, "failed": self.failed, "unfinished": self.unfinished}
        return {"answers": str(self.answers), **counts}

    def _lines(self) -> tuple[str, list[tuple[str, str]]]:
        rows = self.ok + self.failed + self.unfinished
        states = [("answered", self.ok), ("failed", self.failed), ("unfinished", self.unfinished)]
        return f"{rows:,} rows in {self.answers}", [(state, f"{count:,}") for state, count in states]


@dataclass(frozen=True, repr=False)
class Estimate(_Figures):
    """What a job would use, before anything is called.

    Attributes:
        rows: Rows that would be called.
        calls: Calls, without those of rows that have no question.
        input_tokens: Tokens of the prompts. What a predictor that does not report its tokens adds is not included.
        input_usd: US dollars for these; None if no price is known.
        most_output_tokens: The most tokens that the answers can have; None if the model has no limit that is known.
        most_output_usd: US dollars for so many tokens of answers.
        text: How it was estimated, in one line.
    """

    rows: int
    calls: int
    input_tokens: int
    input_usd: float | None
    most_output_tokens: int | None
    most_output_usd: float | None
    text: str

    def to_dict(self) -> dict[str, Any]:
        """The estimate as JSON."""
        return dict(self.__dict__)

    def _lines(self) -> tuple[str, list[tuple[str, str]]]:
        known = [
            ("Tokens in", self.input_tokens, ","),
            ("for US$", self.input_usd, ",.4f"),
            ("Tokens out", self.most_output_tokens, ","),
            ("for US$", self.most_output_usd, ",.4f"),
        ]
        lines = [(label, format(value, how)) for label, value, how in known if value is not None]
        return f"{self.rows:,} rows, {self.calls:,} calls", [*lines, ("How", self.text)]


def audit_of(result: dict[str, Any]) -> Audit:
    """The audit in the result of a run."""
    return built(Audit, result, _json=result)


def exported_of(result: dict[str, Any]) -> Exported:
    """The export in the result of a run."""
    return Exported(**{**result, "answers": Path(result["answers"])})


def estimate_of(result: dict[str, Any]) -> Estimate:
    """The estimate in the result of a run."""
    return Estimate(**result)
