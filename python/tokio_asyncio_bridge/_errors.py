"""The errors of this package."""

import os
import re

_LITERAL = re.compile(r"`(?:(process|resume|compare|export|verify) )?--([a-z][a-z-]*)(?:[ =]([^`]*))?`")
# Options without a value at the shell.
_SWITCHES = {"allow_changed", "concurrent", "force", "html", "no_html", "private", "sequential", "skip_failed"}
# An item of a mapping. The shell may need quotes around it.
_ITEM = re.compile(r"'?(.*?)=(.*?)'?")


def in_python(text: str) -> str:
    """Names options as keywords, where a message names them as the command line does."""

    def keyword(match: re.Match[str]) -> str:
        function, name, value = match.groups(default="")
        name = name.replace("-", "_")
        item = _ITEM.fullmatch(value) if name in ("lm", "map") else None
        if item is not None:
            value = f'{{"{item[1]}": "{item[2]}"}}' if name == "map" else f'{{"{item[1]}": {item[2]}}}'
        elif not value and name in _SWITCHES:
            value = "True"
        option = f"{name}={value}"
        return f"`{function}(…, {option})`" if function else f"`{option}`"

    return _LITERAL.sub(keyword, text)


class BridgeError(Exception):
    """Base of all errors of this package. The text says what failed, and may end with a line `hint: …`.

    Attributes:
        hint: What to do about it, if that is known.
        file: The file that the error is about, if it is about one.
        line: The line in `file`, counted from 1, if one is known.
        called: Whether calls were made before the error, which may have cost money. Their answers are in the journal.
        report: What the run has come to, if it was under way: a `Report` or a `Comparison`.
    """

    hint: str | None
    file: str | None
    line: int | None
    called: bool
    report: object

    def __init__(
        self,
        message: str,
        *,
        file: str | os.PathLike[str] | None = None,
        line: int | None = None,
        called: bool = False,
        report: object = None,
    ) -> None:
        message = in_python(message)
        super().__init__(message)
        self.hint = message.partition("\nhint: ")[2] or None
        self.file = None if file is None else os.fspath(file)
        self.line = line
        self.called = called
        self.report = report


class UsageError(BridgeError, ValueError):
    """An option has a value that does not fit, or options contradict each other or do not fit the predictor."""


class InputError(BridgeError, ValueError):
    """The input cannot be read, or has a row that the predictor cannot be called with."""


class OutputError(BridgeError):
    """A file cannot be written, or would replace one that must stay."""


class JournalError(BridgeError):
    """The journal is missing, in use, damaged, or of another version."""


class ChangedError(BridgeError):
    """The journal holds another job than the one that was asked for."""


class PredictorError(BridgeError):
    """The predictor or the local model cannot be started."""


class ClusterError(BridgeError):
    """The Ray cluster cannot be reached, was lost before the first call, or had no room before `deadline`.

    The same call may succeed later.
    """


class StoppedError(BridgeError):
    """The run was ended by `stop=` before its first call, or at once; what was recorded is safe in the journal."""


class BrokenError(BridgeError):
    """The run was broken off: the journal cannot be written, the input has changed, or the bridge broke.

    What was recorded is safe in the journal, and `resume` goes on. `report` is the `Report` of the run.
    """


class MissingPackageError(BridgeError, ImportError):
    """A package is not installed. The text has the command that installs it."""


class UnfinishedError(BridgeError):
    """The run stopped before every row had its outcome: a budget, `max_failures`, an outage, a refused key."""


class InternalError(BridgeError):
    """A bug in this package."""


class RowError(BridgeError):
    """Why a row has no answer. The text is that of the error, without its class.

    Attributes:
        kind: What it was: `input`, `timeout`, `output`, `crash`, `blocked`, `lost`, `bridge`, `predictor` for an
            exception that the predictor raised, or `unfinished` if the run stopped before the row had its outcome.
        called: Whether the predictor was called for the row.
        type: The name of the exception's class, without its module; `kind` where there was no exception.
        status: The HTTP status of the server, if one answered.
        traceback: Where the exception was raised: the innermost line of the user's own code, then Python's traceback.
    """

    kind: str
    type: str
    message: str
    status: int | None
    traceback: str | None

    def __init__(
        self,
        message: str,
        *,
        kind: str,
        called: bool = True,
        type: str | None = None,
        status: int | None = None,
        traceback: str | None = None,
    ) -> None:
        Exception.__init__(self, message)
        self.hint = self.file = self.line = self.report = None
        self.called = called
        self.kind = kind
        self.type = type or kind
        self.message = message
        self.status = status
        self.traceback = traceback

    def __reduce__(self) -> tuple[object, ...]:
        return (_row_error, (self.message, self.kind), self.__dict__)


def _row_error(message: str, kind: str) -> RowError:
    return RowError(message, kind=kind)
