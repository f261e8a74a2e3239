"""Keeps the predictions of an evaluation beside its journal until they have scores."""

import contextlib
import hashlib
import json
import math
import os
import threading
from typing import IO, Any

from tokio_asyncio_bridge._answers import LOG
from tokio_asyncio_bridge._errors import OutputError
from tokio_asyncio_bridge._options import File

_HEAD = b'{"predictions of": "'


class Predictions:
    """The fields of predictions, by their rows, as JSON lines.

    The file is first looked at when a row is, for by then the run holds the journal's lock.
    """

    def __init__(self, journal: File) -> None:
        """Raises OutputError if the file's name is taken by a file of another kind."""
        answers = os.fspath(journal).removesuffix(".journal")
        self._journal = f"{answers}.journal"
        self._name = f"{answers}.predictions"
        self._lock = threading.Lock()
        self._kept: dict[int, dict[str, Any]] | None = None
        self._file: IO[bytes] | None = None
        self._is_closed = False
        if not _HEAD.startswith(self._read()[: len(_HEAD)]):
            raise OutputError(
                f"`{self._name}` holds no predictions\nhint: move it away, or give another journal", file=self._name
            )

    def of(self, row: int) -> dict[str, Any] | None:
        """The fields of the row's prediction, if an earlier call kept it."""
        with self._lock:
            return self._loaded().get(row)

    def keep(self, row: int, fields: dict[str, Any]) -> None:
        """Keeps a prediction if JSON gives the same fields back: a metric would stumble over others."""
        if not _is_json(fields):
            return
        with self._lock:
            if self._is_closed:  # A call that was given up ends after the run.
                return
            self._loaded()[row] = fields
            self._write(json.dumps([row, fields]).encode() + b"\n")

    def close(self, *, remove: bool) -> None:
        """Ends the writing. `remove` says that every prediction has its score."""
        with self._lock:
            self._is_closed = True
            if self._file is not None:
                self._file.close()
            if remove and self._loaded():
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(self._name)

    def _read(self) -> bytes:
        try:
            with open(self._name, "rb") as file:
                return file.read()
        except FileNotFoundError:
            return b""
        except OSError as error:
            raise OutputError(f"failed to read `{self._name}`: {error.strerror}", file=self._name) from None

    def _loaded(self) -> dict[int, dict[str, Any]]:
        if self._kept is None:
            head, *lines = self._read().split(b"\n")
            # The last line is empty, or was cut off by the end of its process.
            self._kept = dict(map(json.loads, lines[:-1])) if head == self._head() else {}
        return self._kept

    def _write(self, line: bytes) -> None:
        try:
            if self._file is None:
                # What is there may be of an earlier job, or cut off.
                descriptor = os.open(self._name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
                self._file = open(descriptor, "wb", buffering=0)  # noqa: SIM115 (open until `close`)
                rest = [json.dumps(item).encode() + b"\n" for item in self._loaded().items()]
                line = b"".join([self._head(), b"\n", *rest])
            self._file.write(line)
        except OSError as error:
            LOG.warning(f"a prediction was not kept until it has its score: `{self._name}`: {error.strerror}")

    def _head(self) -> bytes:
        """The first line, which names the job by the start of its journal."""
        with open(self._journal, "rb") as file:
            return _HEAD + hashlib.sha256(file.readline()).hexdigest().encode() + b'"}'


def _is_json(value: Any) -> bool:
    """Whether JSON gives the same value back, of the same type."""
    if type(value) is dict:
        return all(type(key) is str and _is_json(item) for key, item in value.items())
    if type(value) is list:
        return all(map(_is_json, value))
    return type(value) in {str, int, bool, type(None)} or (type(value) is float and math.isfinite(value))
