"""What the package offers, in one place: `__init__.py` brings it when it is first asked for."""

from tokio_asyncio_bridge._answers import Answers
from tokio_asyncio_bridge._comparison import Comparison
from tokio_asyncio_bridge._drive import Stop
from tokio_asyncio_bridge._errors import (
    BridgeError,
    BrokenError,
    ChangedError,
    ClusterError,
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
from tokio_asyncio_bridge._jobs import compare, estimate, export, merge, process, resume, verify
from tokio_asyncio_bridge._map import map
from tokio_asyncio_bridge._outcome import Outcome, Usage
from tokio_asyncio_bridge._progress import Progress, ShowProgress
from tokio_asyncio_bridge._report import Report
from tokio_asyncio_bridge._results import Audit, Estimate, Exported
from tokio_asyncio_bridge._stream import stream

__all__ = [
    "Answers",
    "Audit",
    "BridgeError",
    "BrokenError",
    "ChangedError",
    "ClusterError",
    "Comparison",
    "Estimate",
    "Evaluation",
    "Exported",
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
    "ShowProgress",
    "Stop",
    "StoppedError",
    "UnfinishedError",
    "Usage",
    "UsageError",
    "compare",
    "estimate",
    "evaluate",
    "export",
    "map",
    "merge",
    "process",
    "resume",
    "stream",
    "verify",
]
