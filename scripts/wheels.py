"""Builds the wheels of the Python package and tests them, for `make`.

Each Python has a target directory of its own, such as `target/py3.12`: cargo would otherwise build the crates that are
made for one Python again for the next, and so would the program's own build.
"""

import fcntl
import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[1]
TOOLS = Path(sys.executable).parent
NAME = "tokio-asyncio-bridge"
# There is a wheel for each: the limited API, which one wheel for all would need, has no `PyContext_*`.
VERSIONS = ["3.11", "3.12", "3.13", "3.14"]
# The oldest glibc that the portable wheels run with; that of any Linux since 2014.
GLIBC = (2, 17)
# What the wheels for other Pythons are compiled with: see there.
PROFILE = ("--config", "tests/profile.toml")
# What shows the same with every Python, or takes long.
ONCE = "not notebook and not leaks and not once and not cluster"


@dataclass(frozen=True)
class Python:
    """A Python on this machine."""

    executable: str
    version: str  # such as `3.12`

    @property
    def target(self) -> Path:
        """Where cargo builds for it."""
        return PROJECT / "target" / f"py{self.version}"

    @property
    def unpacked(self) -> Path:
        """Where cargo builds the source distribution. `pip` builds in an environment of its own, and in `target` cargo
        would then build the wheel anew."""
        return self.target / "unpacked"

    def __str__(self) -> str:
        return f"Python {self.version} ({self.executable})"


def inspected(executable: Path | str) -> Python | None:
    """The Python behind an executable. None if it does not run, has no wheel, or makes no virtual environments."""
    ask = "import ensurepip, sys, venv; print(sys.implementation.name, *sys.version_info[:2], sys._base_executable)"
    # In another directory than the project, whose `.python-version` would choose for pyenv.
    told = subprocess.run([executable, "-I", "-c", ask], cwd="/", capture_output=True, text=True)
    if told.returncode != 0:
        return None
    implementation, major, minor, found = told.stdout.strip().split(" ", 3)
    version = f"{major}.{minor}"
    return Python(found, version) if implementation == "cpython" and version in VERSIONS else None


def one(executable: str) -> Python:
    """The Python behind an executable; exits if it has no wheel."""
    python = inspected(executable)
    if python is None:
        sys.exit(f"{executable}: there is no wheel for this Python")
    return python


def own() -> Python:
    """The Python of `.venv`, which is that of `PYTHON`."""
    return one(sys.executable)


def found() -> list[Python]:
    """The Pythons on the path and those of pyenv, one of each version, sorted; that of `.venv` comes before others."""
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
    directories = [Path(directory) for directory in os.get_exec_path()] + sorted(pyenv.glob("versions/*/bin"))
    names = [directory / f"python{version}" for version in VERSIONS for directory in directories]
    first = {}
    for python in [own(), *(inspected(name) for name in names if os.access(name, os.X_OK))]:
        if python:
            first.setdefault(python.version, python)
    return [first[version] for version in VERSIONS if version in first]


def run(*command: Path | str, **variables: str) -> None:
    """Runs a command in the project; exits if it fails, for it has said why."""
    # With the last, Python compiles every module anew at each import, for nothing is compiled when it is installed.
    unwanted = ("PYTHONPATH", "VIRTUAL_ENV", "PYTHONDONTWRITEBYTECODE")
    kept = {name: value for name, value in os.environ.items() if name not in unwanted}
    code = subprocess.run(command, cwd=PROJECT, env=kept | variables).returncode
    if code != 0:
        sys.exit(code)


def build(python: Python, out: Path, *options: str) -> None:
    """Builds the wheel for a Python into `out`."""
    print(f"== building the wheel for {python}", flush=True)
    begin(python.target, own().unpacked if PROFILE[0] in options else PROJECT / "target")
    run(
        # Tests that run beside it bound how long something takes.
        "nice",
        *(TOOLS / "maturin", "build", "--quiet", "--release", "--locked", *options),
        *("--interpreter", python.executable, "--target-dir", python.target, "--out", out),
        # Where maturin looks for the Python that has Zig.
        PATH=f"{TOOLS}:{os.environ['PATH']}",
    )


def begin(target: Path, other: Path) -> None:
    """Begins a target directory with the crates of another one of the same profile: most know of no Python."""
    done, begun = other / "release", target / "release"
    if not (done / "deps").exists() or begun.exists():
        return
    partial = target.with_name(f"{target.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        # In this order, for the other build may be under way: what has a fingerprint is complete.
        for name in (".fingerprint", "build", "deps"):
            shutil.copytree(done / name, partial / name, ignore=programs, symlinks=True)
    except shutil.Error:
        return  # A file of the other build is gone by now. This one then begins with nothing.
    target.mkdir(parents=True, exist_ok=True)
    partial.rename(begun)


def programs(directory: str, names: list[str]) -> list[str]:
    """What is no crate among the files of `deps`: programs and their parts."""
    kept = {".rlib", ".rmeta", ".so", ".d"}
    return [name for name in names if Path(name).suffix not in kept] if Path(directory).name == "deps" else []


@contextmanager
def alone(python: Python) -> Iterator[None]:
    """Waits until no other target of `make` builds the wheel for a Python or installs it, and keeps others from it."""
    python.target.parent.mkdir(exist_ok=True)
    with python.target.with_name(f"{python.target.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def wheel(python: Python) -> Path:
    """Builds the wheel for a Python, and returns its path. That for `.venv`'s is what `pip install` makes here."""
    out = python.target / "wheels"
    shutil.rmtree(out, ignore_errors=True)
    build(python, out, "--compatibility", "linux", *(() if python.version == own().version else PROFILE))
    (path,) = out.glob("*.whl")
    return path


def environment(python: Python, built: Path) -> Path:
    """An environment with the wheel and what its tests import. Returns its directory."""
    directory = python.target / "venv"
    stamp = directory / ".made-with"
    if not stamp.exists() or stamp.read_text() != python.executable:
        run(python.executable, "-m", "venv", "--clear", directory)
        stamp.write_text(python.executable)
    pip = [directory / "bin/python", "-m", "pip", "--quiet", "--disable-pip-version-check"]
    # Of the same version, another build would not be installed over it.
    run(*pip, "uninstall", "--yes", NAME)
    run(
        # Most of these modules are never imported, so compiling all takes longer than the tests save by it.
        *(*pip, "install", "--no-compile", f"{built}[dspy,notebook]"),
        *("--constraint", "constraints.txt", "--requirement", "tests/wheel/requirements.txt"),
    )
    return directory


def test(python: Python, arguments: Sequence[str]) -> None:
    """Runs pytest against the wheel for a Python."""
    with alone(python):
        built = wheel(python)
        directory = environment(python, built)
        source = python.target / "sdist"
        if python.version == own().version:
            shutil.rmtree(source, ignore_errors=True)
            run(TOOLS / "maturin", "sdist", "--out", source)
    print(f"== testing the wheel for {python}", flush=True)
    run(
        *(directory / "bin/python", "-m", "pytest", *arguments),
        WHEEL=str(built),
        SOURCE=str(source),
        SOURCE_TARGET=str(python.unpacked),
    )


def test_others(arguments: Sequence[str]) -> None:
    """Runs what may differ against the wheel for each other Python on this machine."""
    others = [python for python in found() if python.version != own().version]
    print(
        f"== wheels: {own()} is tested by `make test`; here {', '.join(map(str, others)) or 'is no other'}", flush=True
    )

    def tested(python: Python) -> int:
        command = [sys.executable, __file__, "test", "--python", python.executable, "-m", ONCE, *arguments]
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        print(done.stdout, end="", flush=True)
        return done.returncode

    # Side by side, for each builds and waits for long on one core. What one says is shown when it has ended.
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        failed = [code for code in pool.map(tested, others) if code != 0]
    if failed:
        sys.exit(failed[0])


def portable(versions: Sequence[str], triple: str | None) -> None:
    """Builds wheels for any Linux, and a source distribution, into `dist`."""
    dist = PROJECT / "dist"
    is_foreign = triple is not None and not triple.startswith(platform.machine())
    # maturin knows the Pythons of other machines by their names.
    pythons = [Python(f"python{version}", version) for version in VERSIONS] if is_foreign else found()
    missing = set(versions) - {python.version for python in pythons}
    if missing:
        sys.exit(f"there is no Python {', '.join(sorted(missing))} on this machine, but {', '.join(map(str, pythons))}")
    options = [
        "--zig",
        "--compatibility",
        f"manylinux_{GLIBC[0]}_{GLIBC[1]}",
        *(("--target", triple) if triple else ()),
    ]
    for python in pythons:
        if not versions or python.version in versions:
            build(python, dist, *options)
    run(TOOLS / "maturin", "sdist", "--out", dist)
    for path in sorted(dist.glob("*.whl")):
        audit(path)
    print(*sorted(str(path.relative_to(PROJECT)) for path in dist.iterdir()), sep="\n")


def audit(path: Path) -> None:
    """Exits where a wheel needs a newer glibc than it says, or a library that not every Linux has."""
    told = subprocess.run([TOOLS / "auditwheel", "show", path], capture_output=True, text=True)
    tag = re.search(r'following platform tag:\s+"manylinux_(\d+)_(\d+)_', told.stdout)
    if told.returncode != 0 or not tag or (int(tag[1]), int(tag[2])) > GLIBC:
        sys.exit(f"{path.name} is not portable:\n{told.stdout}{told.stderr}")


def test_command(arguments: Sequence[str]) -> None:
    """Runs the acceptance tests on the wheel's `tab`, with the packages of `.venv`.

    With `--module` before the names of tests it runs them on `python -m tokio_asyncio_bridge`.
    """
    python = own()
    directory = python.target / "command"
    run(python.executable, "-m", "venv", "--clear", "--without-pip", directory)
    (packages,) = directory.glob("lib/python3.*/site-packages")
    (shared,) = TOOLS.parent.glob("lib/python3.*/site-packages")
    (packages / "shared.pth").write_text(f"{shared}\n")
    pip = [
        TOOLS / "python",
        "-m",
        "pip",
        "--quiet",
        "--disable-pip-version-check",
        "--python",
        directory / "bin/python",
    ]
    with alone(python):
        run(*pip, "install", "--no-deps", wheel(python))
    program = directory / "bin/tab"
    if arguments[:1] == ["--module"]:
        arguments = arguments[1:]
        # The tests run a file. This one does what `python -m` does.
        program = directory / "bin/module"
        run_module = "runpy.run_module('tokio_asyncio_bridge', run_name='__main__', alter_sys=True)"
        program.write_text(f"#!{directory}/bin/python\nimport runpy\n\n{run_module}\n")
        program.chmod(0o755)
    # The crates have other features without `--workspace`, and would be built again.
    cargo = ["cargo", "test", "--locked", "--workspace"]
    run(*cargo, "--test", "acceptance", "--", *arguments, TEST_PROGRAM=str(program))


match sys.argv[1:]:
    case ["build"]:
        with alone(own()):
            wheel(own())
    case ["test", "--python", executable, *arguments]:
        test(one(executable), arguments)
    case ["test", *arguments]:
        test(own(), arguments)
    case ["test-others", *arguments]:
        test_others(arguments)
    case ["test-command", *arguments]:
        test_command(arguments)
    case ["portable", "--target", triple, *versions]:
        portable(versions, triple)
    case ["portable", *versions]:
        portable(versions, None)
    case _:
        sys.exit(
            "usage: wheels.py build|test [--python PYTHON]|test-others|test-command [ARGUMENT…]"
            " | portable [--target TRIPLE] [VERSION…]"
        )
