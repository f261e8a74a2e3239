"""Replaces `sys.stdout` and `sys.stderr`: whatever Python's code prints passes through Rust, which masks secrets."""

import io
import os
import sys
from collections.abc import Callable
from typing import Any

_Write = Callable[[int, bytes], int]


class _Masked(io.RawIOBase):
    """The lowest layer of a stream, below `print`, `logging` and `sys.stdout.buffer`."""

    mode = "wb"

    def __init__(self, descriptor: int, name: str, write: _Write) -> None:
        self._descriptor, self.name, self._write = descriptor, name, write

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._descriptor

    def isatty(self) -> bool:
        return os.isatty(self._descriptor)

    def write(self, data: Any) -> int:
        return self._write(self._descriptor, bytes(data))


# The streams that a forked child had from its parent. Another thread may have been writing and holds their locks for
# ever; closing them would wait for it.
_parents: list[Any] = []


def mask(write: _Write) -> None:
    """Puts `write` below both streams, once."""
    for descriptor, name in ((1, "stdout"), (2, "stderr")):
        stream = getattr(sys, name)
        if isinstance(stream, io.TextIOWrapper) and _lowest(stream) is None:
            stream.flush()
            _replace(name, stream, _Masked(descriptor, f"<{name}>", write))


def renew() -> None:
    """Gives a forked child streams of its own, without the parent's locks."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        lowest = _lowest(stream)
        if lowest is not None:
            _parents.append(stream)
            _replace(name, stream, lowest)


def _lowest(stream: Any) -> _Masked | None:
    raw = getattr(getattr(stream, "buffer", None), "raw", None)
    return raw if isinstance(raw, _Masked) else None


def _replace(name: str, stream: io.TextIOWrapper, lowest: _Masked) -> None:
    buffer = io.BufferedWriter(lowest)
    masked = io.TextIOWrapper(
        buffer, encoding=stream.encoding, errors="backslashreplace", newline="\n", line_buffering=True
    )
    masked.mode = "w"
    setattr(sys, name, masked)
    setattr(sys, f"__{name}__", masked)
