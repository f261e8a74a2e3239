"""Makes tracebacks of the user's own lines, without ours and those of the import machinery."""

import os
import sys
import sysconfig
import traceback
from collections.abc import Iterator
from types import FrameType

_HELPERS = "_tokio_asyncio_bridge/"
_OURS = (_HELPERS, "<frozen ")
# The package that brought the bridge in, if one did: it need not lie among the installed ones.
_PACKAGE = getattr(sys.modules.get("tokio_asyncio_bridge"), "__file__", None)
if isinstance(_PACKAGE, str):
    _OURS = (*_OURS, os.path.join(os.path.dirname(os.path.abspath(_PACKAGE)), ""))
_LIBRARIES = tuple(
    os.path.normcase(path) + os.sep
    for name in ("stdlib", "platstdlib", "purelib", "platlib")
    if (path := sysconfig.get_paths().get(name))
)
# Where installed packages lie, also those of another environment and of Debian's own Python.
_INSTALLED = {"site-packages", "dist-packages"}
_LONGEST_MESSAGE = 10_000
_MOST_MEMBERS = 20
_LONGEST_TRACEBACK = 4_000
_LONGEST_WORD = 1_000


def is_ours(filename: str) -> bool:
    """Whether a file is one of this program, or of the import machinery."""
    return filename.startswith(_OURS)


def is_library(filename: str) -> bool:
    """Whether a file belongs to the standard library or to an installed package."""
    # Compiled libraries name their source (`uvloop/loop.pyx`), which is not on this machine.
    return os.path.normcase(filename).startswith(_LIBRARIES) or filename.endswith(".pyx")


def is_own(filename: str) -> bool:
    """Whether a file is the user's own: no part of this program, the standard library or an installed package."""
    return not (is_ours(filename) or is_library(filename) or _INSTALLED.intersection(filename.split(os.sep)))


def message(error: BaseException) -> str:
    """`str(error)`, or a note if that raises; at most 10,000 characters."""
    try:
        text = str(error)
    except BaseException as nested:
        text = f"<its __str__ raised {type(nested).__name__}>"
    return shorten(text)


def reasons(error: BaseException) -> str:
    """The message, followed by those of its causes and of a group's members that it does not repeat itself."""
    text = message(error)
    try:
        for inner, link in _behind(error, 8):
            said = message(inner).strip()
            # Some causes have a text longer than their `message`, and it is the message that libraries repeat.
            own = getattr(inner, "message", None)
            gist = (own if isinstance(own, str) and own else said).strip().partition("\n")[0]
            if gist and gist in text:
                continue
            told = f"{type(inner).__name__}: {said}" if said else type(inner).__name__
            text = f"{text}{link}{told}" if text else told
    except BaseException:  # Attributes of an exception may raise.
        pass
    return shorten(text)


def _behind(error: BaseException, depth: int) -> Iterator[tuple[BaseException, str]]:
    """The members of a group and the cause, each followed by its own, with the words that lead to it."""
    if depth == 0:
        return
    members = error.exceptions[:_MOST_MEMBERS] if isinstance(error, BaseExceptionGroup) else ()
    causes = () if error.__cause__ is None else (error.__cause__,)
    for inner, link in (*((one, "; ") for one in members), *((one, "; caused by ") for one in causes)):
        yield inner, link
        yield from _behind(inner, depth - 1)


def shorten(text: str) -> str:
    """The text with lone surrogates escaped, cut before the word at 10,000 characters; the rest is counted."""
    text = text.encode("utf-8", "backslashreplace").decode("utf-8")
    if len(text) <= _LONGEST_MESSAGE:
        return text
    kept = text[:_LONGEST_MESSAGE]
    # Half of a secret would not be masked.
    end = max(kept.rfind(separator) for separator in " \n\"'") + 1
    if end > _LONGEST_MESSAGE - _LONGEST_WORD:
        kept = kept[:end]
    return f"{kept}... ({len(text) - len(kept)} more characters)"


def full(error: BaseException) -> str:
    """Python's own traceback, trimmed to the user's frames and the innermost one, which raised."""
    try:
        trace = traceback.TracebackException.from_exception(error, compact=True)
        link: traceback.TracebackException | None = trace
        while link is not None:
            link.stack = traceback.StackSummary.from_list(_trimmed(link.stack))
            link = link.__cause__ or link.__context__
        return "".join(trace.format()).rstrip()
    except BaseException:
        return f"{type(error).__name__}: {message(error)}"


def _trimmed(stack: traceback.StackSummary) -> list[traceback.FrameSummary]:
    """The user's frames and the innermost one."""
    frames = [frame for frame in stack if not is_ours(frame.filename)]
    kept = [frame for frame in frames if not is_library(frame.filename)]
    if kept and kept[-1] is not frames[-1]:
        kept.append(frames[-1])
    return kept


def origin(error: BaseException) -> str | None:
    """The innermost line of the user's own code, as `FILE:LINE in FUNCTION: SOURCE`."""
    try:
        found = None
        for frame in traceback.extract_tb(error.__traceback__):
            if not is_ours(frame.filename) and not is_library(frame.filename):
                found = frame
        if found is None:
            return None
        return shorten(f"{found.filename}:{found.lineno} in {found.name}: {found.line}")
    except BaseException:
        return None


def raised(error: BaseException, core: BaseException) -> str:
    """The `origin` of `core`, which `error` only wraps, or that of `error`; below it the end of the traceback."""
    return f"{origin(core) or origin(error) or ''}\n{_end_of(full(error))}"


def _end_of(text: str) -> str:
    """The last whole lines, for half of a secret would not be masked."""
    text = text.encode("utf-8", "backslashreplace").decode("utf-8")
    if len(text) <= _LONGEST_TRACEBACK:
        return text
    return "  ...\n" + text[-_LONGEST_TRACEBACK:].partition("\n")[2]


def where_is(thread_id: int) -> tuple[str, str, int | None, str | None] | None:
    """Where a thread is: its line, its stack, the row of its call, and what it imports.

    The line is the innermost one of the user's own, or else the innermost. The stack is trimmed like a traceback. What
    it imports is the package whose import is under way there, if one is.
    """
    frame = sys._current_frames().get(thread_id)
    if frame is None:
        return None
    # Before the files of the stack are read, while the thread goes on.
    row, imported = _row_of(frame), _imported_at(frame)
    stack = traceback.extract_stack(frame)
    others = [f for f in stack if not is_ours(f.filename)] or list(stack)
    at = ([f for f in others if not is_library(f.filename)] or others)[-1]
    line = shorten(f"{at.filename}:{at.lineno} in {at.name}: {at.line}")
    lines = "".join(traceback.format_list(_trimmed(stack) or others)).rstrip()
    return line, f"Stack (most recent call last):\n{_end_of(lines)}", row, imported


def _imported_at(frame: FrameType | None) -> str | None:
    """The package whose import is under way below the innermost line of the user's own."""
    name = None
    while frame is not None:
        code = frame.f_code
        if not is_ours(code.co_filename) and not is_library(code.co_filename):
            break
        if code.co_filename == "<frozen importlib._bootstrap>" and code.co_name == "_find_and_load":
            name = frame.f_locals.get("name")
        frame = frame.f_back
    return name.partition(".")[0] if isinstance(name, str) else None


def _row_of(frame: FrameType | None) -> int | None:
    """The row of the `drive` that the frame runs under; None for a task that the predictor itself made."""
    while frame is not None:
        if frame.f_code.co_filename == f"{_HELPERS}host.py" and "call" in frame.f_locals:
            return getattr(frame.f_locals["call"], "row", None)
        frame = frame.f_back
    return None
