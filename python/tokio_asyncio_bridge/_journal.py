"""Answers rows with a journal: the rows are kept beside it as JSON lines, and the outcomes are read back from it."""

import json
import os
import re
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from tokio_asyncio_bridge import _native
from tokio_asyncio_bridge._answers import status
from tokio_asyncio_bridge._drive import Stop, drive, refuse_stopped
from tokio_asyncio_bridge._errors import BridgeError, InputError, OutputError
from tokio_asyncio_bridge._options import File, words
from tokio_asyncio_bridge._outcome import Outcome
from tokio_asyncio_bridge._predictor import Predictor, given
from tokio_asyncio_bridge._progress import Display
from tokio_asyncio_bridge._report import Report, report_of

# Outcomes that are read at once, between two looks for signals.
_BATCH = 256
# Types whose values JSON holds as they are.
_SCALARS = {bool, int, float, str, type(None)}


def answered(
    rows: Iterable[Any],
    predictor: Predictor,
    journal: File,
    display: Display | None,
    stop: Stop | None,
    options: dict[str, Any],
) -> tuple[list[Outcome], Report | None]:
    """The outcome of each row, in the rows' order, and the report of the run. `options` have been checked.

    Without any row there is nothing to do, and no file is written or looked at.

    Whatever is raised once the predictor is loaded, and the journal open, has the outcomes so far as its attribute
    `outcomes`.
    """
    answers = Path(os.fspath(journal).removesuffix(".journal"))
    if answers.name in ("", "."):
        raise OutputError(f"`{os.fspath(journal)}` is no name of a journal\nhint: give a name such as `run.journal`")
    choices = {name: options.pop(name, False) for name in ("force", "skip_failed", "allow_changed")}
    refuse_stopped(stop)
    named, target = given(predictor)
    file, kept = _spooled(rows, answers.parent)
    if not kept:
        os.unlink(file)
        return [], None
    try:
        refuse_stopped(stop)
        run = _native.process_rows(file, str(answers), words({**named, **options}), target, choices)
    except BaseException:
        os.unlink(file)
        raise
    recorded = f"{answers}.journal"
    try:
        report = drive(run, report_of, stop, display)
    except BaseException as error:
        if isinstance(error, BridgeError):
            _tell_of_rows(error, answers)
        # Rows are compared with the journal before the run stands anywhere. Until then it may be of others.
        if run.standing() is not None and os.path.exists(recorded):
            outcomes = _outcomes(recorded, kept)
            error.outcomes = [found for found in outcomes if status(found) != "unfinished"]  # type: ignore[attr-defined]
        raise
    found: list[Outcome] = []
    try:
        found.extend(_outcomes(recorded, kept))
    except BaseException as error:
        error.report, error.outcomes = report, found  # type: ignore[attr-defined]
        raise
    return found, report


def _spooled(rows: Iterable[Any], directory: Path) -> tuple[str, list[Mapping[str, Any]]]:
    """Writes the rows to a new file in the directory. Returns its name, and the rows."""
    kept: list[Mapping[str, Any]] = []
    try:
        descriptor, name = tempfile.mkstemp(prefix=".tmp", dir=directory)
    except OSError as error:
        raise OutputError(f"failed to write into `{directory}`: {error.strerror}", file=directory) from None
    try:
        with open(descriptor, "w", encoding="utf-8") as file:
            for row in rows:
                file.write(_line(len(kept), row))
                kept.append(row)
    except BaseException:
        os.unlink(name)
        raise
    return name, kept


def _line(index: int, row: Any) -> str:
    """The row as a line of JSON."""
    if not isinstance(row, Mapping):
        raise InputError(
            f"row {index} is a value of type {type(row).__name__}, and with a journal a row is a mapping\n"
            "hint: give it the parameter's name, as in `{'question': …}`"
        )
    try:
        line = _json(row)
    except (RecursionError, TypeError, ValueError):
        raise _refusal(index, row) from None
    try:
        line.encode()
    except UnicodeEncodeError:  # Half a surrogate pair.
        line = json.dumps(dict(row))
    return line + "\n"


def _json(value: Any) -> str:
    """The value as JSON that comes back as the same value. Raises for a value that JSON cannot hold."""
    _check_keys(value)
    return json.dumps(dict(value) if isinstance(value, Mapping) else value, ensure_ascii=False, allow_nan=False)


def _check_keys(value: Any) -> None:
    """Raises for a key that is no text: it would come back as text."""
    if type(value) in _SCALARS:
        return
    if isinstance(value, Mapping):
        for key, item in value.items():
            if not isinstance(key, str):
                raise TypeError(f"the key {key!r} is no text")
            _check_keys(item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            _check_keys(item)


def _refusal(index: int, row: Mapping[Any, Any]) -> InputError:
    """Why a row cannot be kept."""
    for key, value in row.items():
        try:
            _json({key: value})
        except (RecursionError, TypeError, ValueError) as error:
            kind = type(value).__name__
            return InputError(
                f"row {index}: the value of `{key}`, of type {kind}, cannot be kept as JSON: {error}\n"
                "hint: convert it, or leave out the journal"
            )
    return InputError(f"row {index} cannot be kept as JSON")


def _tell_of_rows(error: BridgeError, answers: Path) -> None:
    """Has an error tell of rows and of `journal=`, where it tells of the file of the rows and of `output=`."""
    file = re.escape(f"`{answers}.input`")
    (text,) = error.args
    text = re.sub(rf"failed to read {file}: line (\d+)", lambda found: f"row {int(found[1]) - 1}", text)
    text = re.sub(r"\(line [\d, ]+", lambda found: _rows_of_lines(found[0]), text)
    text = re.sub(rf"{file} has changed", "the rows have changed", text)
    text = text.replace("the file ends before", "they end before").replace("restore the file", "restore them")
    text = text.replace("`output=`", "`journal=`")
    error.args = (text,)
    error.hint = text.partition("\nhint: ")[2] or None


def _rows_of_lines(text: str) -> str:
    return re.sub(r"\d+", lambda found: str(int(found[0]) - 1), text.replace("line", "row"))


def _outcomes(journal: str, rows: list[Mapping[str, Any]]) -> Iterator[Outcome]:
    """The outcome of each row, as the journal has it."""
    recorded = _native.Outcomes(journal)
    for start in range(0, len(rows), _BATCH):
        yield from recorded.of(start, rows[start : start + _BATCH])
