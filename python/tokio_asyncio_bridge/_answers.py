"""The outcomes of rows, in the rows' order, and tables of them."""

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, overload

from tokio_asyncio_bridge import _native
from tokio_asyncio_bridge._tables import ARROW, PANDAS, PLAIN, POLARS, Columns, Kind, Source, Typed, results

if TYPE_CHECKING:
    from tokio_asyncio_bridge._outcome import Outcome, Usage
    from tokio_asyncio_bridge._report import Report


LOG = logging.getLogger("tokio_asyncio_bridge")


class Answers(Sequence["Outcome"]):
    """The outcomes of all rows, in the rows' order.

    The tables that it makes have the columns of the rows, then one for each field of the answers in order of first
    appearance, then `status` (`ok`, `failed` or `unfinished`), `error`, `attempts` and `latency_ms`, as an answers file
    has them; here, an unfinished row counts the attempts that were made for it. What a row does not have is null. A
    name that the rows have already becomes `predicted_<name>`, or `run_<name>` for the last four.

    Attributes:
        stopped: Why the run stopped before its last row; None if it did not.
        report: The timing report of a run with a journal; None without one, or without any row.
    """

    def __init__(
        self,
        outcomes: "list[Outcome]",
        source: Source,
        stopped: str | None = None,
        report: "Report | None" = None,
    ) -> None:
        self._outcomes = outcomes
        self._source = source
        self.stopped = stopped
        self.report = report

    @overload
    def __getitem__(self, index: int) -> "Outcome": ...
    @overload
    def __getitem__(self, index: slice) -> "list[Outcome]": ...
    def __getitem__(self, index: int | slice) -> "Outcome | list[Outcome]":
        return self._outcomes[index]

    def __len__(self) -> int:
        return len(self._outcomes)

    def __repr__(self) -> str:
        counts = ", ".join(f"{count} {status}" for status, count in self.counts.items())
        return f"<Answers: {counts or 'no rows'}>"

    @property
    def ok(self) -> "list[Outcome]":
        """The outcomes of the rows that were answered."""
        return [outcome for outcome in self._outcomes if outcome.ok]

    @property
    def failed(self) -> "list[Outcome]":
        """The outcomes of the rows that were not, with the unfinished ones."""
        return [outcome for outcome in self._outcomes if not outcome.ok]

    @property
    def counts(self) -> dict[str, int]:
        """How many rows have each status."""
        return dict(Counter(map(status, self._outcomes)))

    @property
    def usage(self) -> "Usage | None":
        """What the calls of all rows used, as far as they told. `None` if none did."""
        told = [outcome.usage for outcome in self._outcomes if outcome.usage is not None]
        if not told:
            return None
        return type(told[0])(*(sum(parts) for parts in zip(*told, strict=True)))

    @property
    def cost(self) -> float | None:
        """The cost of all calls in US dollars, as far as they told; `None` if the price of any is unknown."""
        costs = [outcome.cost for outcome in self._outcomes if outcome.usage is not None]
        known = [cost for cost in costs if cost is not None]
        return sum(known) if known and len(known) == len(costs) else None

    def table(self) -> Any:
        """A table of the kind that the rows came in, with the answers' columns appended.

        Of a pandas data frame it is one with the same index, of a Hugging Face dataset a dataset, of mappings a list of
        dictionaries.
        """
        return self._as(self._source.kind)

    def to_pandas(self) -> Any:
        """The rows and their answers as a pandas data frame. A frame's own index is kept.

        Raises:
            MissingPackageError: pandas is not installed.
        """
        return self._as(PANDAS)

    def to_polars(self) -> Any:
        """The rows and their answers as a polars data frame.

        Raises:
            MissingPackageError: polars is not installed.
        """
        return self._as(POLARS)

    def to_arrow(self) -> Any:
        """The rows and their answers as a pyarrow table.

        Raises:
            MissingPackageError: pyarrow is not installed.
        """
        return self._as(ARROW)

    def _as(self, kind: Kind) -> Any:
        # A value that is no mapping was the one argument.
        rows = [outcome.row for outcome in self._outcomes]
        rows = [row if isinstance(row, Mapping) else {"row": row} for row in rows]
        return kind.append(self._source.table(kind, rows), self._columns(self._source.names(rows)))

    def _columns(self, own: list[str]) -> Columns:
        """The columns to append to a table whose own have these names."""
        answers = [_fields(outcome.answer) if outcome.ok else {} for outcome in self._outcomes]
        fields = PLAIN.names(answers)
        values: list[list[Any]] = [
            *([answer.get(field) for answer in answers] for field in fields),
            Typed(str, (status(outcome) for outcome in self._outcomes)),
            Typed(str, (_error(outcome) for outcome in self._outcomes)),
            Typed(int, (outcome.attempts for outcome in self._outcomes)),
            Typed(float, (round(outcome.latency * 1e3, 3) if outcome.attempts else None for outcome in self._outcomes)),
        ]
        names, renamed = _native.answer_columns(own, fields)
        for sentence in renamed:
            LOG.warning(sentence)
        return dict(zip(names, values, strict=True))


def _fields(answer: Any) -> dict[str, Any]:
    """The columns of an answer."""
    fields: dict[str, Any] = results().named(answer)
    return fields


def status(outcome: "Outcome") -> str:
    """What became of a row, as an answers file says it."""
    if outcome.error is None:
        return "ok"
    return "unfinished" if outcome.error.kind == "unfinished" else "failed"


def _error(outcome: "Outcome") -> str | None:
    error = outcome.error
    if error is None or error.kind == "unfinished":
        return None
    return f"{error.type}: {error.message}" if error.message else error.type
