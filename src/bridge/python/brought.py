"""What jobs bring into the interpreter that they share, and take out: directories, modules, DSPy's settings."""

import asyncio
import atexit
import gc
import importlib
import os
import sys
import threading
from collections.abc import Iterable
from types import ModuleType
from typing import Any

from _tokio_asyncio_bridge import is_guest, traces


class _Job:
    """What one job has brought."""

    def __init__(self) -> None:
        # Where modules of the user's own are looked for, in this order.
        self.directories: list[str] = []
        # Modules made of a file that was named by its path. No other module imports them by their name.
        self.files: dict[str, ModuleType] = {}
        # DSPy's global settings, as the predictor's file left them.
        self.settings: dict[str, Any] | None = None
        self.exit_functions = atexit._ncallbacks()
        # The modules that were there before it was loaded, and those that came while it was.
        self.before = frozenset(sys.modules)
        self.modules: set[str] = set()


# The modules that were there before the jobs, which are not taken out.
_given = frozenset(sys.modules)
# By their loops, in the order in which they came.
_jobs: dict[asyncio.AbstractEventLoop, _Job] = {}
_loading: _Job | None = None
# One job is loaded or taken out at a time.
_lock = threading.Lock()
# The directories on `sys.path` that jobs have put there.
_put: set[str] = set()
# The last job's directories, for a hint.
_searched: list[str] = []
# The settings in which DSPy keeps what belongs to the call that is being made.
_OF_A_CALL = {
    "branch_idx", "caller_modules", "caller_predict", "send_stream", "stream_listeners", "trace", "usage_tracker"
}  # fmt: skip
# The loops of jobs that are to be taken out when the next one comes.
_late: list[asyncio.AbstractEventLoop] = []
_garbage = False


def begin(loop: asyncio.AbstractEventLoop | None) -> None:
    """Waits until no other job is being loaded; what is brought in from now on is the job's of the loop.

    Without a loop, the predictor is an object that is there already, and brings in nothing.
    """
    global _loading, _garbage, _given
    _lock.acquire()
    if loop is None:
        return
    while _late:
        _take_out(_late.pop())
    if not _jobs:
        _given = frozenset(sys.modules)
    if _garbage:
        # Modules and their functions refer to each other. Two jobs' are not to be held at once.
        _garbage = False
        gc.collect()
    _searched.clear()
    _loading = _jobs[loop] = _Job()
    _dspy.begin()


def settle() -> None:
    """Lets the job's calls, which run in copies of this context, see the settings that DSPy has now."""
    if _loading is not None:
        _dspy.settle(_loading)


def loaded() -> None:
    """Ends what `begin` has begun."""
    global _loading
    if _loading is not None:
        _dspy.loaded(_loading)
        _loading.modules = set(sys.modules) - _loading.before
    _loading = None
    _lock.release()


def end(loop: asyncio.AbstractEventLoop) -> None:
    """Takes out what the job has brought in, unless another needs it."""
    with _lock:
        job = _jobs.get(loop)
        if job is None:
            return
        # Exit functions may import, if the process ends next.
        if not is_guest and atexit._ncallbacks() > job.exit_functions:
            _late.append(loop)
        else:
            _take_out(loop)


def _take_out(loop: asyncio.AbstractEventLoop) -> None:
    global _garbage
    _garbage = True
    job = _jobs.pop(loop)
    _dspy.end(job)
    needed = [directory for other in _jobs.values() for directory in other.directories]
    put = [directory for directory in job.directories if directory in _put]
    for directory in job.directories:
        if directory in _put and directory not in needed:
            _put.discard(directory)
            if directory in sys.path:
                sys.path.remove(directory)
    for name, module in list(sys.modules.items()):
        is_file = job.files.get(name) is module
        # Others may have imported a module too, in somebody else's process. What came later was imported by them unless
        # it can be found through the job alone.
        came = not is_guest or name in job.modules or _is_own(name, module, put)
        if is_file or (came and _is_own(name, module, job.directories) and not _is_own(name, module, needed)):
            del sys.modules[name]
    # Whatever another job needs is that job's from now on.
    for other in _jobs.values():
        other.modules |= job.modules


def renew() -> None:
    """Takes out what all jobs have brought into a forked child, which has none of them."""
    global _lock, _loading
    _lock = threading.Lock()
    if _loading is not None:
        _dspy.loaded(_loading)
        _loading = None
    while _jobs:
        _take_out(next(iter(_jobs)))


def add_file(name: str, module: ModuleType) -> None:
    """Makes the module known by its name, for as long as the job lasts."""
    sys.modules[name] = module
    if _loading is not None:
        _loading.files[name] = module


def add_directory(directory: str, place: int) -> None:
    """Puts a directory on `sys.path` for as long as the job lasts, at 0, or at any other place behind all others."""
    if directory not in _searched:
        _searched.insert(0 if place == 0 else len(_searched), directory)
    if _loading is not None and directory not in _loading.directories:
        _loading.directories.append(directory)
    if directory not in sys.path:
        sys.path.insert(0 if place == 0 else len(sys.path), directory)
        _put.add(directory)


def searched() -> list[str]:
    """Where modules of the user's own were looked for."""
    return list(_searched)


def twin(directory: str) -> tuple[str, str] | None:
    """Another job's module, and its file, that would be imported in place of one in the directory."""
    files = {name for job in _jobs.values() for name in job.files}
    for name in of_others() - files:
        file = sys.modules[name].__file__
        for place in (f"{name}.py", os.path.join(name, "__init__.py")):
            place = os.path.join(directory, place)
            if os.path.isfile(place) and not os.path.samefile(place, file):
                return name, file
    return None


def of_others() -> set[str]:
    """The names of modules that other jobs alone have brought."""
    others = [job for job in _jobs.values() if job is not _loading]
    theirs = [place for job in others for place in job.directories]
    own = _loading.directories if _loading is not None else []
    return {
        name
        for name, module in (list(sys.modules.items()) if others else ())
        if any(job.files.get(name) is module for job in others)
        or (_is_own(name, module, theirs) and not _is_own(name, module, own))
    }


def _is_own(name: str, module: Any, directories: Iterable[str]) -> bool:
    """Whether a module came from one of the directories, and is no installed library."""
    file = getattr(module, "__file__", None) if type(module) is ModuleType and name not in _given else None
    # Modules of ours have names in place of paths.
    if not isinstance(file, str) or not os.path.isabs(file) or traces.is_library(file):
        return False
    return any(file.startswith(os.path.join(os.path.abspath(directory), "")) for directory in directories)


class _Dspy:
    """DSPy's settings: one set for the process, which `dspy.configure` changes, and overrides in each context.

    The first job's stay in the process's set, where threads without its context look, except while another is loaded.
    Those of a job beside it are overrides in that job's context. Without this, a job whose file configures no model
    would be given another job's.

    In somebody else's process the set is not ours: a job loads with what is there, and all its settings are overrides.
    """

    def __init__(self) -> None:
        # The settings as they were before any job.
        self.base: dict[str, Any] | None = None
        # Whose settings the process's set holds.
        self.holder: _Job | None = None
        # That set and its owner, while another job is being loaded.
        self.kept: tuple[dict[str, Any], Any, Any] | None = None

    @staticmethod
    def store() -> Any:
        """DSPy's module of settings; None if it is not imported, or another release's."""
        store = sys.modules.get("dspy.dsp.utils.settings")
        names = ("main_thread_config", "DEFAULT_CONFIG", "thread_local_overrides", "dotdict", "config_owner_thread_id")
        return store if all(hasattr(store, name) for name in names) else None

    def begin(self) -> None:
        store = self.store()
        if store is None:
            return
        is_alone = len(_jobs) == 1
        if self.base is None or is_guest:
            self.base = copied(store.main_thread_config if is_alone or is_guest else store.DEFAULT_CONFIG)
        if not is_alone or is_guest:
            owner = (store.config_owner_thread_id, getattr(store, "config_owner_async_task", None))
            self.kept = (dict(store.main_thread_config), *owner)
            self.fill(store, copied(self.base))

    def settle(self, job: _Job) -> None:
        store = self.store()
        if store is None:
            return
        if self.base is None:
            self.base = copied(store.DEFAULT_CONFIG)
        job.settings = dict(store.main_thread_config)
        if self.kept is not None or is_guest:
            underlay(job.settings)
        else:
            underlay({name: value for name, value in job.settings.items() if self.is_changed(name, value)})

    def is_changed(self, name: str, value: Any) -> bool:
        before = (self.base or {}).get(name)
        return not (value is before or (isinstance(value, list) and not value and not before))

    def loaded(self, job: _Job) -> None:
        store, kept, self.kept = self.store(), self.kept, None
        if store is not None and kept is not None:
            self.fill(store, *kept)
        elif is_guest:
            if store is not None:  # The job has imported DSPy.
                self.fill(store, copied(store.DEFAULT_CONFIG))
        elif len(_jobs) == 1:
            self.holder = job

    def end(self, job: _Job) -> None:
        store = self.store()
        if job is not self.holder:
            return
        self.holder = next((other for other in _jobs.values() if other.settings is not None), None)
        if store is not None:
            base = copied(store.DEFAULT_CONFIG if self.base is None else self.base)
            self.fill(store, base if self.holder is None else self.holder.settings)

    @staticmethod
    def fill(store: Any, settings: dict[str, Any], owner: Any = None, task: Any = None) -> None:
        # Changed in place, and never empty: a job's thread may be reading it.
        for name in set(store.main_thread_config) - set(settings):
            del store.main_thread_config[name]
        store.main_thread_config.update(settings)
        store.config_owner_thread_id, store.config_owner_async_task = owner, task


def copied(settings: dict[str, Any]) -> dict[str, Any]:
    """The settings, with lists of their own: DSPy appends to some of them."""
    return {name: list(value) if isinstance(value, list) else value for name, value in settings.items()}


def override(**settings: Any) -> None:
    """Overrides settings of DSPy for all calls of the job that is being loaded."""
    store = _dspy.store()
    if store is not None:
        overrides = store.thread_local_overrides
        overrides.set(store.dotdict({**overrides.get(), **settings}))


def underlay(settings: dict[str, Any]) -> None:
    """As `override`, but the settings that are overridden already stay so."""
    store = _dspy.store()
    if store is not None:
        override(**{**settings, **store.thread_local_overrides.get()})


def keep_settings() -> None:
    """Keeps DSPy's settings in this context as they are, whatever becomes of those of the process."""
    store = _dspy.store()
    if store is not None:
        # Not those of a job that is just being loaded.
        underlay(copied(store.main_thread_config if _dspy.kept is None else _dspy.kept[0]))


def changed_settings() -> dict[str, Any]:
    """The settings that DSPy has in this context and did not begin with."""
    store = _dspy.store()
    if store is None:
        return {}
    settings = {**store.main_thread_config, **store.thread_local_overrides.get()}
    begun = store.DEFAULT_CONFIG
    return {name: value for name, value in settings.items() if name not in _OF_A_CALL and value != begun.get(name)}


def take_settings(settings: dict[str, Any]) -> None:
    """Makes these settings those of the process."""
    if settings:
        importlib.import_module("dspy")
        store = _dspy.store()
        if store is not None:
            store.main_thread_config.update(settings)


_dspy = _Dspy()
