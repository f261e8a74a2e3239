"""Keeps the predictions of an evaluation beside its journal until they have scores."""

import contextlib
import fcntl
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
    """The fields of predictions, by their rows, as JSON lines. Several processes may keep theirs in one file.

    The file is first looked at when a row is, for by then the run holds the journal's lock.
    """

    def __init__(self, journal: File, *, has_journal: bool = True) -> None:
        """Without a journal there, the predictions are those of one run.

        Raises OutputError if the file's name is taken by a file of another kind.
        """
        answers = os.path.abspath(os.fspath(journal).removesuffix(".journal"))
        self._journal = f"{answers}.journal" if has_journal else None
        self._name = f"{answers}.predictions"
        self._begin()
        try:
            with open(self._name, "rb") as file:
                head = file.read(len(_HEAD))
        except FileNotFoundError:
            return
        except OSError as error:
            raise OutputError(f"failed to read `{self._name}`: {error.strerror}", file=self._name) from None
        if not _HEAD.startswith(head):
            raise OutputError(
                f"`{self._name}` holds no predictions\nhint: move it away, or give another journal", file=self._name
            )

    def _begin(self) -> None:
        self._lock = threading.Lock()
        self._kept: dict[int, dict[str, Any]] = {}
        # How much of the file has been read. It holds no more than its head if it is of an earlier job.
        self._read = 0
        self._first: bytes | None = None
        self._file: IO[bytes] | None = None
        self._is_closed = False

    def __getstate__(self) -> dict[str, Any]:
        return {"_journal": self._journal, "_name": self._name}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._begin()
        # On another machine the file is out of reach.
        self._is_closed = not os.path.isdir(os.path.dirname(self._name))

    def of(self, row: int) -> dict[str, Any] | None:
        """The fields of the row's prediction, if an earlier call or another process kept it."""
        with self._lock:
            self._look()
            return self._kept.get(row)

    def keep(self, row: int, fields: dict[str, Any]) -> None:
        """Keeps a prediction if JSON gives the same fields back: a metric would stumble over others."""
        if not _is_json(fields):
            return
        with self._lock:
            if self._is_closed:  # A call that was given up ends after the run.
                return
            self._kept[row] = fields
            try:
                if self._file is None:
                    self._file = self._opened()
                self._file.write(json.dumps([row, fields]).encode() + b"\n")
            except OSError as error:
                LOG.warning(f"a prediction was not kept until it has its score: `{self._name}`: {error.strerror}")

    def close(self, *, remove: bool) -> None:
        """Ends the writing. `remove` says that every prediction has its score."""
        with self._lock:
            self._look()
            self._is_closed = True
            if self._file is not None:
                self._file.close()
            if remove and self._read:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(self._name)

    def _look(self) -> None:
        """Reads what has been kept since the last time."""
        try:
            with open(self._name, "rb") as file:
                if not self._read and file.readline() != self._head():
                    return
                self._read = max(self._read, len(self._head()))
                file.seek(self._read)
                lines = file.read()
        except OSError:
            return
        # The last line may be on its way.
        *whole, rest = lines.split(b"\n")
        self._read += len(lines) - len(rest)
        for line in whole:
            # One that was cut off by the end of its process holds nothing.
            with contextlib.suppress(ValueError):
                row, fields = json.loads(line)
                self._kept[row] = fields

    def _opened(self) -> IO[bytes]:
        """Opens the file to write at its end. What is there may be of an earlier job, or cut off."""
        file = open(self._name, "ab+", buffering=0, opener=lambda name, flags: os.open(name, flags, 0o600))  # noqa: SIM115
        # Other processes may do the same at this moment.
        fcntl.flock(file, fcntl.LOCK_EX)
        file.seek(0)
        head = self._head()
        if file.read(len(head)) != head:
            file.truncate(0)
            file.write(head)
        else:
            file.seek(-1, os.SEEK_END)
            if file.read(1) != b"\n":
                file.write(b"\n")
        fcntl.flock(file, fcntl.LOCK_UN)
        return file

    def _head(self) -> bytes:
        """The first line, which names the job by the start of its journal."""
        if self._first is None:
            of = b"one run"
            if self._journal is not None:
                with open(self._journal, "rb") as file:
                    of = hashlib.sha256(file.readline()).hexdigest().encode()
            self._first = _HEAD + of + b'"}\n'
        return self._first


def _is_json(value: Any) -> bool:
    """Whether JSON gives the same value back, of the same type."""
    if type(value) is dict:
        return all(type(key) is str and _is_json(item) for key, item in value.items())
    if type(value) is list:
        return all(map(_is_json, value))
    return type(value) in {str, int, bool, type(None)} or (type(value) is float and math.isfinite(value))
