"""Answers files of questions with an async Python program, through a Tokio <-> asyncio bridge."""

from tokio_asyncio_bridge._drive import Progress, Stop
from tokio_asyncio_bridge._errors import (
    BridgeError,
    BrokenError,
    ChangedError,
    InputError,
    InternalError,
    JournalError,
    OutputError,
    PredictorError,
    RowError,
    StoppedError,
    UsageError,
)
from tokio_asyncio_bridge._jobs import process, resume
from tokio_asyncio_bridge._report import Report

__all__ = [
    "BridgeError",
    "BrokenError",
    "ChangedError",
    "InputError",
    "InternalError",
    "JournalError",
    "OutputError",
    "PredictorError",
    "Progress",
    "Report",
    "RowError",
    "Stop",
    "StoppedError",
    "UsageError",
    "process",
    "resume",
]
