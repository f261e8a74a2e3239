"""The jobs of the command line as functions."""

import os
from collections.abc import Iterable, Mapping
from typing import Any, Unpack

from tokio_asyncio_bridge import _native
from tokio_asyncio_bridge._comparison import Comparison, comparison_of
from tokio_asyncio_bridge._drive import Stop, drive, refuse_stopped
from tokio_asyncio_bridge._options import (
    CompareOptions,
    ExportOptions,
    File,
    ProcessOptions,
    ResumeOptions,
    VerifyOptions,
    checked,
    words,
)
from tokio_asyncio_bridge._predictor import Predictor, given
from tokio_asyncio_bridge._progress import ShowProgress, display_of
from tokio_asyncio_bridge._report import Report, report_of
from tokio_asyncio_bridge._results import Audit, Estimate, Exported, audit_of, estimate_of, exported_of

_OWN = ("predictor", "progress", "stop")


def process(
    input: File,
    output: File | None = None,
    *,
    predictor: Predictor,
    progress: ShowProgress = None,
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
            directory. For shard K of N it is `.answers.K-of-N.csv`.
        predictor: What answers a row: a SPEC (`path/to/file.py:name`, `package.module:name`, or `dspy`), any callable,
            or a `dspy.Module`. Its parameters are the columns that it takes. An object may be defined anywhere, also in
            a notebook's cell. It is called in a copy of the caller's context and recorded by its name. The
            command line asks for `--predictor` to resume the run, unless it is a function at the top of a file.
        progress: What is shown meanwhile: None or "auto" draws a bar at a terminal and in a notebook, True shows lines
            elsewhere too, False nothing. A function is called with a `Progress` several times a second, on the calling
            thread. If it raises, the run is stopped and the exception is raised.
        stop: Ends the run when its `stop()` is called. If that was before, no call is made.
        options: The options of the command line under their own names. Durations are seconds, `timedelta` or texts
            such as `500ms`; a switch is True or False.

    Returns:
        The timing report, as `<output>.report.json` has it.

    Raises:
        TypeError: There is no such option, or its value is of the wrong type.
        UsageError: An option's value does not fit.
        InputError, OutputError, JournalError, ChangedError, PredictorError, ClusterError: The run cannot begin.
        StoppedError: `stop` ended the run before its first call, or at once.
        BrokenError: The run was broken off.
    """
    display = display_of(progress)
    run = _process("process", input, output, predictor, stop, options, dry_run=False)
    return drive(run, report_of, stop, display)


def estimate(
    input: File,
    output: File | None = None,
    *,
    predictor: Predictor,
    stop: Stop | None = None,
    **options: Unpack[ProcessOptions],
) -> Estimate:
    """Estimates what `process` with the same arguments would use. Checks all that it checks, and calls nothing.

    It starts the bridge and loads the predictor, reads the whole input, and looks for the run in the journal of
    `output`, whose answered rows are not counted. It writes nothing.

    Args:
        input: As `process` takes it.
        output: As `process` takes it.
        predictor: As `process` takes it.
        stop: As `process` takes it.
        options: As `process` takes them.

    Returns:
        Rows, calls, tokens, and US dollars where a price is known.

    Raises:
        BridgeError: The run could not begin; the classes are those of `process`.
    """
    run = _process("estimate", input, output, predictor, stop, options, dry_run=True)
    return drive(run, estimate_of, stop, None)


def _process(
    function: str,
    input: File,
    output: File | None,
    predictor: Predictor,
    stop: Stop | None,
    options: Mapping[str, object],
    *,
    dry_run: bool,
) -> _native.Run:
    taken = checked(function, options, ProcessOptions, _OWN)
    refuse_stopped(stop)
    choices = {name: taken.pop(name, False) for name in ("force", "skip_failed", "allow_changed")}
    paths = (os.fspath(input), None if output is None else os.fspath(output))
    return _native.process(paths, *_asked(taken, predictor), choices, dry_run)


def _asked(options: dict[str, Any], predictor: Predictor | None) -> tuple[list[tuple[str, str]], _native.Given | None]:
    """The words of the options, and the predictor if it is an object."""
    spec, target = ({}, None) if predictor is None else given(predictor)
    return words({**spec, **options}), target


def resume(
    answers: File,
    *,
    predictor: Predictor | None = None,
    progress: ShowProgress = None,
    stop: Stop | None = None,
    **options: Unpack[ResumeOptions],
) -> Report:
    """Runs the failed and unfinished rows of an earlier run again.

    The options of that run hold again, except those that are given now. The run may have been started by `process` or
    at the command line. Relative paths of its predictor are those of the directory that it was started in; the working
    directory stays what it is.

    Args:
        answers: The answers file of the run, or its journal.
        predictor: What answers a row, if not what did so before. An object has to be given again, unless it is a
            function at the top of a file.
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
    display = display_of(progress)
    refuse_stopped(stop)
    only, allow_changed = taken.pop("only", None), taken.pop("allow_changed", False)
    run = _native.resume(os.fspath(answers), *_asked(taken, predictor), only, allow_changed)
    return drive(run, report_of, stop, display)


def compare(
    input: File,
    *,
    predictor: Predictor,
    progress: ShowProgress = None,
    stop: Stop | None = None,
    **options: Unpack[CompareOptions],
) -> Comparison:
    """Times the same rows one call at a time and several at a time. Keeps no answers.

    By default it makes three runs each of `sequential` and of 16 calls at a time, in turn, after a warm-up. Signals end
    it as they end `process`; then the attribute `report` of KeyboardInterrupt is the Comparison of the finished runs.

    Args:
        input: A `.csv` or `.jsonl` file.
        predictor: As `process` takes it.
        progress: As `process` takes it; each run begins anew.
        stop: As `process` takes it.
        options: Those of the command line under their own names. `concurrency` may be a list.

    Returns:
        Wall times, rows per second, the speedup and its 95 % confidence interval.

    Raises:
        BridgeError: The comparison could not begin, or was broken off; the classes are those of `process`.
    """
    taken = checked("compare", options, CompareOptions, _OWN)
    display = display_of(progress)
    refuse_stopped(stop)
    # One that is off must not turn on the other, as in `process`: each of the two adds a mode.
    taken = {name: value for name, value in taken.items() if value is not False or name == "private"}
    run = _native.compare(os.fspath(input), *_asked(taken, predictor))
    return drive(run, comparison_of, stop, display)


def verify(input: File, answers: File, *, stop: Stop | None = None, **options: Unpack[VerifyOptions]) -> Audit:
    """Checks an answers file against its input, and against the journal beside it if there is one. Changes nothing.

    Args:
        input: The input of the run.
        answers: Its answers file.
        stop: Ends the check when its `stop()` is called.
        options: How to read the input: `range`, `shard`, `delimiter`, `encoding`, `format`. What is left out is taken
            from the journal.

    Returns:
        The faults by kind. `Audit.ok` says whether there is none.

    Raises:
        InputError, JournalError: A file cannot be read.
        StoppedError: `stop` ended the check.
    """
    taken = checked("verify", options, VerifyOptions, ("stop",))
    refuse_stopped(stop)
    return drive(_native.verify(os.fspath(input), os.fspath(answers), words(taken)), audit_of, stop, None)


def export(
    answers: File, output: File | None = None, *, stop: Stop | None = None, **options: Unpack[ExportOptions]
) -> Exported:
    """Writes the answers that a run has so far, from its journal, even while it goes on. Calls nothing.

    Args:
        answers: The answers file of the run.
        output: Another file to write, in place of `answers`.
        stop: Ends the export when its `stop()` is called. Then the file is left as it was.
        options: `fields`, the columns of the answers; `force`, to replace a file that this package did not write and
            keep it under another name.

    Returns:
        The file that was written, and how many of its rows are answered, failed and unfinished.

    Raises:
        JournalError: There is no journal, or it cannot be read.
        OutputError: The file cannot be written, or would replace one that must stay.
        StoppedError: `stop` ended the export.
    """
    taken = checked("export", options, ExportOptions, ("output", "stop"))
    refuse_stopped(stop)
    force = taken.pop("force", False)
    to = None if output is None else os.fspath(output)
    return drive(_native.export(os.fspath(answers), to, words(taken), force), exported_of, stop, None)


def merge(
    input: File,
    answers: Iterable[File],
    output: File | None = None,
    *,
    force: bool = False,
    stop: Stop | None = None,
) -> Report:
    """Joins the answers of the shards of an input into one answers file, journal and report. Calls nothing.

    Each outcome is checked against its row of the input. Rows that have none, and rows that have one in several files,
    are told in warnings. `resume` answers what is left over. The files of the shards stay as they are.

    Args:
        input: The file that the shards are of.
        answers: The answers files of the shards, or their journals. Only the journals are read.
        output: The answers file to write; by default the input's stem and `.answers.csv` or `.answers.jsonl`, in the
            working directory.
        force: Replace an earlier run of that name. It is kept under another one.
        stop: Ends the merge when its `stop()` is called.

    Returns:
        The timing report of all sessions of all shards. Its `wall_s` is the sum over them, although shards may have run
        at the same time.

    Raises:
        UsageError: A file is named twice, or none is.
        ChangedError: The shards are of different jobs, or one has an outcome that is of no row of the input.
        InputError, JournalError: A file is missing, in use or cannot be read.
        OutputError: A file cannot be written, or would replace one that must stay.
        StoppedError: `stop` ended the merge.
    """
    refuse_stopped(stop)
    to = None if output is None else os.fspath(output)
    run = _native.merge(os.fspath(input), [os.fspath(file) for file in answers], to, force)
    return drive(run, report_of, stop, None)
