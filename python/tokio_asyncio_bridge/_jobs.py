"""The jobs of the command line as functions."""

import os
from typing import Unpack

from tokio_asyncio_bridge import _native
from tokio_asyncio_bridge._drive import ProgressCallback, Stop, drive
from tokio_asyncio_bridge._options import File, ProcessOptions, ResumeOptions, checked, words
from tokio_asyncio_bridge._predictor import Predictor, given
from tokio_asyncio_bridge._report import Report, report_of

_OWN = ("predictor", "progress", "stop")


def process(
    input: File,
    output: File | None = None,
    *,
    predictor: Predictor,
    progress: ProgressCallback | None = None,
    stop: Stop | None = None,
    **options: Unpack[ProcessOptions],
) -> Report:
    """Answers the rows of a file, and writes the answers and the timing report. Continues a run that was begun before.

    It writes the same files as `tokio-asyncio-bridge process`: the answers, and beside them the journal
    (`<output>.journal`), the report (`<output>.report.json`) and its page (`<output>.report.html`). Either of the two
    continues what the other began.

    The call returns when every row has its outcome or something stops the run, such as a budget: then `Report.stopped`
    says why. The interpreter's lock is released meanwhile, and signals are looked for at least every 100 ms on Python's
    main thread. Ctrl-C stops the run: calls in flight may go on for `grace`, and the answers and the report are
    written. A second Ctrl-C ends it at once. Both raise KeyboardInterrupt, whose attribute `report` is the Report, or
    None where none was written. On other threads, which get no signals, `stop` ends the run.

    Args:
        input: A `.csv` or `.jsonl` file, a pipe, or `-` for standard input (with `format`).
        output: The answers file; by default the input's stem and `.answers.csv` or `.answers.jsonl`, in the working
            directory.
        predictor: What answers a row: a SPEC such as `app.py:answer`, or an object to call, such as an `async def` or
            a `dspy.Module`, which may be defined in a notebook's cell. Its calls see the context variables of the
            caller and its `dspy.settings`, as they are now.
        progress: Is called with a `Progress` several times a second, on the calling thread. If it raises, the run is
            stopped and the exception is raised.
        stop: Ends the run when its `stop()` is called.
        options: The options of the command line under their own names. Durations are seconds, `timedelta` or texts
            such as `500ms`; a switch is True or False.

    Returns:
        The timing report, as `<output>.report.json` has it.

    Raises:
        TypeError: There is no such option, or its value is of the wrong type.
        UsageError: An option's value does not fit.
        InputError, OutputError, JournalError, ChangedError, PredictorError: The run cannot begin.
        StoppedError: `stop` ended the run before its first call, or at once.
        BrokenError: The run was broken off.
    """
    taken = checked("process", options, ProcessOptions, _OWN)
    force, skip_failed = taken.pop("force", False), taken.pop("skip_failed", False)
    allow_changed = taken.pop("allow_changed", False)
    spec, target = given(predictor)
    run = _native.process(
        os.fspath(input),
        None if output is None else os.fspath(output),
        words({**spec, **taken}),
        predictor=target,
        force=force,
        skip_failed=skip_failed,
        allow_changed=allow_changed,
    )
    return drive(run, report_of, stop, progress)


def resume(
    answers: File,
    *,
    predictor: Predictor | None = None,
    progress: ProgressCallback | None = None,
    stop: Stop | None = None,
    **options: Unpack[ResumeOptions],
) -> Report:
    """Runs the failed and unfinished rows of an earlier run again.

    The options of that run hold again, except those that are given now. The run may have been started by `process` or
    at the command line. Relative paths of its predictor are those of the directory that it was started in; the working
    directory stays what it is.

    Args:
        answers: The answers file of the run.
        predictor: What answers a row, if not what did so before. An object has to be given again.
        progress: As `process` takes it.
        stop: As `process` takes it.
        options: Those of the command line under their own names.

    Returns:
        The timing report of all sessions of the run.

    Raises:
        JournalError: There is no journal, or it cannot be read.
        BridgeError: Its other classes, as `process` raises them.
    """
    taken = checked("resume", options, ResumeOptions, _OWN)
    only, allow_changed = taken.pop("only", None), taken.pop("allow_changed", False)
    spec, target = ({}, None) if predictor is None else given(predictor)
    run = _native.resume(
        os.fspath(answers), words({**spec, **taken}), predictor=target, only=only, allow_changed=allow_changed
    )
    return drive(run, report_of, stop, progress)
