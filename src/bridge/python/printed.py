"""Replaces `sys.stdout` and `sys.stderr`: whatever Python's code prints passes through Rust, which masks secrets.

In a process of the program's own the streams are replaced for good. In somebody else's, a veil is drawn over those that
are there, for as long as jobs are alive: what is printed goes where it went, to a file or a notebook's cell.
"""

import io
import os
import sys
from collections.abc import Callable
from typing import Any

_Write = Callable[[int, bytes], int]
_Mask = Callable[[bytes], bytes | None]


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


def mask(write: _Write, any_stream: bool = False) -> None:
    """Puts `write` below both streams, once; unless they are of another kind, if `any_stream` is not set."""
    for descriptor, name in ((1, "stdout"), (2, "stderr")):
        stream = getattr(sys, name)
        if (any_stream or isinstance(stream, io.TextIOWrapper)) and _lowest(stream) is None:
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


def _replace(name: str, stream: Any, lowest: _Masked) -> None:
    buffer = io.BufferedWriter(lowest)
    masked = io.TextIOWrapper(
        buffer, encoding=stream.encoding, errors="backslashreplace", newline="\n", line_buffering=True
    )
    masked.mode = "w"
    setattr(sys, name, masked)
    setattr(sys, f"__{name}__", masked)


class _Veil:
    """Masks the text that is written to a stream, and is that stream in all else."""

    # Whether jobs are alive. Somebody may have kept a veil that was lifted.
    drawn = False
    mask: _Mask = staticmethod(lambda _: None)

    def __init__(self, stream: Any) -> None:
        object.__setattr__(self, "_veiled", stream)

    @property
    def __class__(self) -> Any:
        return type(self._veiled)

    def __getattr__(self, name: str) -> Any:
        return getattr(object.__getattribute__(self, "_veiled"), name)

    def __setattr__(self, name: str, value: Any) -> None:
        # IPython puts a function in place of `write` for each cell, and that function calls the `write` it found. If
        # the stream below got the function, this veil would call it again, and again.
        if name == "write":
            object.__setattr__(self, name, value)
        else:
            setattr(self._veiled, name, value)

    def __delattr__(self, name: str) -> None:
        if name == "write":
            object.__delattr__(self, name)
        else:
            delattr(self._veiled, name)

    def __iter__(self) -> Any:
        return iter(self._veiled)

    def __enter__(self) -> Any:
        return self._veiled.__enter__()

    def __exit__(self, *error: Any) -> Any:
        return self._veiled.__exit__(*error)

    def __repr__(self) -> str:
        return repr(self._veiled)

    def write(self, text: Any) -> Any:
        if _Veil.drawn and isinstance(text, str):
            masked = _Veil.mask(text.encode("utf-8", "surrogatepass"))
            if masked is not None:
                self._veiled.write(masked.decode("utf-8", "surrogatepass"))
                return len(text)
        return self._veiled.write(text)

    def writelines(self, lines: Any) -> None:
        for line in lines:
            self.write(line)


def veil_with(mask: _Mask) -> None:
    """Gives what masks the secrets of all jobs. It returns None for bytes without any."""
    _Veil.mask = staticmethod(mask)


def veil() -> None:
    """Draws a veil over both streams, unless it is there already."""
    _Veil.drawn = True
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is not None and type(stream) is not _Veil:
            setattr(sys, name, _Veil(stream))


def unveil() -> None:
    """Lifts the veil, unless somebody has put another stream in its place."""
    _Veil.drawn = False
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if type(stream) is _Veil:
            setattr(sys, name, stream._veiled)
