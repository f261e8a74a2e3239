"""Answers files of questions with an async Python program, through a Tokio <-> asyncio bridge."""

from tokio_asyncio_bridge._answers import Answers
from tokio_asyncio_bridge._drive import Progress, Stop
from tokio_asyncio_bridge._errors import (
    BridgeError,
    BrokenError,
    ChangedError,
    InputError,
    InternalError,
    JournalError,
    MissingPackageError,
    OutputError,
    PredictorError,
    RowError,
    StoppedError,
    UnfinishedError,
    UsageError,
)
from tokio_asyncio_bridge._evaluate import Evaluation, evaluate
from tokio_asyncio_bridge._jobs import process, resume
from tokio_asyncio_bridge._map import map
from tokio_asyncio_bridge._outcome import Outcome, Usage
from tokio_asyncio_bridge._report import Report
from tokio_asyncio_bridge._stream import stream

__all__ = [
    "Answers",
    "BridgeError",
    "BrokenError",
    "ChangedError",
    "Evaluation",
    "InputError",
    "InternalError",
    "JournalError",
    "MissingPackageError",
    "Outcome",
    "OutputError",
    "PredictorError",
    "Progress",
    "Report",
    "RowError",
    "Stop",
    "StoppedError",
    "UnfinishedError",
    "Usage",
    "UsageError",
    "evaluate",
    "map",
    "process",
    "resume",
    "stream",
]
