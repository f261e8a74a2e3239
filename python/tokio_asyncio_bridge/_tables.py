"""Rows of tables, and tables with columns appended.

A library of tables is imported only if the user's table is one of its own, or if the user asks for one.
"""

import importlib
import json
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol

from tokio_asyncio_bridge._errors import MissingPackageError, UsageError

Row = Mapping[str, Any]
Columns = dict[str, list[Any]]


class Typed(list[Any]):
    """The values of a column whose type is known, also if all of them are null."""

    def __init__(self, kind: type, values: Iterable[Any]) -> None:
        super().__init__(values)
        self.kind = kind


class ArrowStream(Protocol):
    """A table of any library that speaks Arrow's C stream interface."""

    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object: ...


Rows = Iterable[Any] | ArrowStream
"""What can be answered: an iterable of mappings or of single arguments, a pandas, polars or Arrow table, or a Hugging
Face dataset."""

BATCH = 1024
"""Rows that are read from a table at once."""

SCALARS = {type(None), bool, int, float, str}


class Kind(Protocol):
    """What can be done with the tables of one library. Imports the library at its first use."""

    name: str

    def names(self, table: Any) -> list[str]:
        """The table's columns as names of arguments."""
        ...

    def batches(self, table: Any) -> Iterator[Sequence[Row]]:
        """The table's rows, in order. A missing value is `None`."""
        ...

    def make(self, columns: Columns) -> Any:
        """A table of these columns."""
        ...

    def append(self, table: Any, columns: Columns) -> Any:
        """The table with these columns after its own. The table itself stays as it is."""
        ...

    def convert(self, table: Any) -> Any:
        """The table of another kind as one of this kind, or `None` if it has to be made of its rows."""
        ...


class Plain:
    """Mappings, which need no library."""

    name = "rows"

    def names(self, table: Sequence[Row]) -> list[str]:
        """The keys of all rows, in order of first appearance."""
        return list(dict.fromkeys(key for row in table for key in row))

    def batches(self, table: Sequence[Row]) -> Iterator[Sequence[Row]]:
        yield table

    def make(self, columns: Columns) -> list[dict[str, Any]]:
        return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]

    def append(self, table: Sequence[Row], columns: Columns) -> list[dict[str, Any]]:
        return [{**row, **added} for row, added in zip(table, self.make(columns), strict=True)]

    def convert(self, table: Any) -> None:
        return None


class Pandas:
    """Data frames of pandas. Their index is kept."""

    name = "pandas"

    def names(self, table: Any) -> list[str]:
        return _distinct(map(str, table.columns))

    def batches(self, table: Any) -> Iterator[Sequence[Row]]:
        names = self.names(table)
        for start in range(0, len(table), BATCH):
            part = table.iloc[start : start + BATCH]
            columns = [_without_missing(part.iloc[:, column]) for column in range(len(names))]
            yield [dict(zip(names, values, strict=True)) for values in zip(*columns, strict=True)]

    def make(self, columns: Columns) -> Any:
        return self._frame(columns, None)

    def append(self, table: Any, columns: Columns) -> Any:
        return library("pandas").concat([table, self._frame(columns, table.index)], axis=1)

    def convert(self, table: Any) -> Any:
        return table.to_pandas() if _is(table, "pyarrow", "Table") or _is(table, "datasets", "Dataset") else None

    def _frame(self, columns: Columns, index: Any) -> Any:
        pandas = library("pandas")

        def series(values: list[Any]) -> Any:
            kinds = {type(value) for value in values} - {type(None)}
            kind: object = None
            # pandas' own choice would turn whole numbers into fractions.
            if kinds == {int, float} and _as_fractions(values) is values:
                kind = object
            elif len(kinds) == 1 and None in values:
                kind = {int: "Int64", bool: "boolean"}.get(*kinds)
            try:
                return pandas.Series(values, index=index, dtype=kind)
            except OverflowError:
                return pandas.Series(values, index=index, dtype=object)

        return pandas.DataFrame({name: series(values) for name, values in columns.items()}, index=index)


class Polars:
    """Data frames of polars."""

    name = "polars"

    def names(self, table: Any) -> list[str]:
        return list(table.columns)

    def batches(self, table: Any) -> Iterator[Sequence[Row]]:
        for part in table.iter_slices(BATCH):
            yield part.to_dicts()

    def make(self, columns: Columns) -> Any:
        return library("polars").DataFrame(self._series(columns))

    def append(self, table: Any, columns: Columns) -> Any:
        return table.hstack(self._series(columns))

    def convert(self, table: Any) -> Any:
        return library("polars").DataFrame(table) if _is(table, "pyarrow", "Table") else None

    def _series(self, columns: Columns) -> list[Any]:
        polars = library("polars")

        def series(values: list[Any]) -> Any:
            if isinstance(values, Typed):
                return polars.Series(values, dtype=values.kind)
            if {type(value) for value in values} <= SCALARS:
                return polars.Series(_as_fractions(values), strict=True)
            # A series by itself would look at the first value alone.
            series = polars.from_dicts([{"": value} for value in values], infer_schema_length=None).to_series()
            if not _holds(series.to_list(), values):
                raise TypeError("polars would alter the values")
            return series

        return [_typed(series, values).alias(name) for name, values in columns.items()]


class Arrow:
    """Tables of pyarrow."""

    name = "pyarrow"

    def names(self, table: Any) -> list[str]:
        return _distinct(table.column_names)

    def batches(self, table: Any) -> Iterator[Sequence[Row]]:
        self.names(table)
        for batch in table.to_batches(max_chunksize=BATCH):
            yield batch.to_pylist()

    def make(self, columns: Columns) -> Any:
        return library("pyarrow").table(self._arrays(columns))

    def append(self, table: Any, columns: Columns) -> Any:
        for name, array in self._arrays(columns).items():
            table = table.append_column(name, array)
        return table

    def convert(self, table: Any) -> Any:
        if _is(table, "datasets", "Dataset"):
            return table.with_format("arrow")[:]
        return library("pyarrow").table(table) if hasattr(table, "__arrow_c_stream__") else None

    def _arrays(self, columns: Columns) -> dict[str, Any]:
        pyarrow = library("pyarrow")
        types = {str: pyarrow.string(), int: pyarrow.int64(), float: pyarrow.float64()}

        def array(values: list[Any]) -> Any:
            return pyarrow.array(values, types[values.kind] if isinstance(values, Typed) else None)

        return {name: _typed(array, values) for name, values in columns.items()}


class Datasets:
    """Datasets of Hugging Face, which are made of Arrow tables."""

    name = "datasets"

    def names(self, table: Any) -> list[str]:
        return list(table.column_names)

    def batches(self, table: Any) -> Iterator[Sequence[Row]]:
        for start in range(0, len(table), BATCH):
            columns = table[start : start + BATCH]
            yield [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]

    def make(self, columns: Columns) -> Any:
        return library("datasets").Dataset(ARROW.make(columns))

    def append(self, table: Any, columns: Columns) -> Any:
        return library("datasets").concatenate_datasets([table, self.make(columns)], axis=1)

    def convert(self, table: Any) -> None:
        return None


PLAIN, PANDAS, POLARS, ARROW, DATASETS = Plain(), Pandas(), Polars(), Arrow(), Datasets()


class Source:
    """Rows to be answered, and the table that they are in, if they are in one."""

    def __init__(self, rows: Rows) -> None:
        self.kind: Kind = PLAIN
        self._table: Any = rows
        if _is(rows, "pandas", "DataFrame"):
            self.kind = PANDAS
        elif _is(rows, "polars", "DataFrame"):
            self.kind = POLARS
        elif _is(rows, "pyarrow", "Table"):
            self.kind = ARROW
        elif _is(rows, "datasets", "Dataset"):
            self.kind = DATASETS
        elif hasattr(rows, "__arrow_c_stream__") and not _is_series(rows):
            self.kind, self._table = _read_stream(rows)
        elif isinstance(rows, (str, bytes, Mapping)) or not isinstance(rows, Iterable):
            raise UsageError(
                f"`rows` is a value of type {type(rows).__name__}\n"
                "hint: give an iterable of mappings such as `[{'question': '…'}]`, or a table"
            )

    def rows(self) -> Iterable[Any]:
        """The rows, in order. Those of an iterator can be read once."""
        return self._table if self.kind is PLAIN else _TableRows(self.kind, self._table)

    def names(self, rows: Sequence[Row]) -> list[str]:
        """The names of the columns, given all rows as they were read."""
        return self.kind.names(rows if self.kind is PLAIN else self._table)

    def table(self, kind: Kind, rows: Sequence[Row]) -> Any:
        """The table, or one of another kind with the same rows."""
        if self.kind is kind:
            return rows if kind is PLAIN else self._table
        converted = None if self.kind is PLAIN else kind.convert(self._table)
        if converted is not None:
            return converted
        return kind.make({name: [row.get(name) for row in rows] for name in self.names(rows)})


def are_at_hand(rows: Iterable[Any]) -> bool:
    """Whether all rows can be listed without code of the user that may wait or raise."""
    return type(rows) in (list, tuple, range) or isinstance(rows, _TableRows) or _is_series(rows)


class _TableRows:
    """The rows of a table, of which the number is known."""

    def __init__(self, kind: Kind, table: Any) -> None:
        self._kind = kind
        self._table = table

    def __len__(self) -> int:
        return len(self._table)

    def __iter__(self) -> Iterator[Row]:
        for batch in self._kind.batches(self._table):
            yield from batch


def library(name: str, install: str | None = None) -> Any:
    """Imports a library, which pip installs by its name, or as `install`.

    Raises:
        MissingPackageError: it is not installed.
    """
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name != name:
            raise
        hint = f"hint: run `pip install {name if install is None else repr(install)}`"
        raise MissingPackageError(f"`{name}` is not installed\n{hint}") from None


def _is(value: object, package: str, name: str) -> bool:
    """Whether the value is an instance of the package's class. If the package is not imported, it cannot be."""
    kind = getattr(sys.modules.get(package), name, None)
    return kind is not None and isinstance(value, kind)


def _is_series(value: object) -> bool:
    """Whether it is a column, whose values are rows of one argument."""
    return _is(value, "pandas", "Series") or _is(value, "polars", "Series")


def _read_stream(table: Any) -> tuple[Kind, Any]:
    """Reads a table of a library that is not known here, with a library that is."""
    kinds: list[Kind] = [POLARS, ARROW]
    # The table's own library comes first, then one that is imported already, which costs nothing.
    own = type(table).__module__.partition(".")[0]
    kinds.sort(key=lambda kind: (kind.name != own, kind.name not in sys.modules))
    for kind in kinds:
        try:
            if kind is ARROW:
                return kind, library("pyarrow").table(table)
            return kind, library("polars").DataFrame(table)
        except MissingPackageError:
            continue
    raise MissingPackageError(
        f"reading a `{type(table).__module__}.{type(table).__name__}` takes `polars` or `pyarrow`, and neither is "
        "installed\nhint: run `pip install pyarrow`"
    )


def _distinct(names: Iterable[str]) -> list[str]:
    """The names, of which a row can hold each only once."""
    distinct = list(names)
    seen: set[str] = set()
    for name in distinct:
        if name in seen:
            raise UsageError(f"the table has two columns `{name}`\nhint: rename one of them")
        seen.add(name)
    return distinct


def _without_missing(series: Any) -> list[Any]:
    """The values of a series of pandas, with `None` for each missing one, which pandas writes in several ways."""
    values: list[Any] = series.tolist()
    missing = series.isna()
    if not missing.any():
        return values
    return [None if is_missing else value for value, is_missing in zip(values, missing.tolist(), strict=True)]


def _as_fractions(values: list[Any]) -> list[Any]:
    """Whole numbers among fractions as fractions, where that alters none."""
    if {type(value) for value in values} - {type(None)} != {int, float}:
        return values
    fractions = [None if value is None else float(value) for value in values]
    return fractions if fractions == values else values


def _holds(column: Any, value: Any) -> bool:
    """Whether a column's value is this one. A record may have keys more, which are null."""
    if isinstance(value, dict):
        missing = (column[key] for key in column.keys() - value.keys()) if isinstance(column, dict) else ()
        return (
            isinstance(column, dict)
            and all(item is None for item in missing)
            and all(key in column and _holds(column[key], item) for key, item in value.items())
        )
    if isinstance(value, list):
        return isinstance(column, list) and len(column) == len(value) and all(map(_holds, column, value))
    return isinstance(column, bool) == isinstance(value, bool) and bool(column == value)


def _typed(build: Callable[[list[Any]], Any], values: list[Any]) -> Any:
    """`build(values)`. Where one column cannot hold values of such different types, they are written as JSON."""
    try:
        return build(values)
    except Exception:
        return build([None if value is None else text(value) for value in values])


def text(value: Any) -> str:
    """The value as an answers file in CSV holds it: text as it is, anything else as JSON."""
    plain = value if isinstance(value, str) else results().plain(value)
    if not isinstance(plain, str):
        plain = json.dumps(plain, ensure_ascii=False)
    return str(results().escaped(plain))


def results() -> Any:
    """The part of the bridge that makes columns of what a predictor returned."""
    return importlib.import_module("_tokio_asyncio_bridge.results")
