"""Which Pythons the wheels are built and tested for, and where, with stand-ins for the Pythons and for maturin."""

import os
import shutil
import subprocess
import sys
import tempfile
import unittest
import venv
from pathlib import Path

PROJECT = Path(__file__).parents[2]
OWN = f"{sys.version_info[0]}.{sys.version_info[1]}"
OTHERS = [version for version in ("3.11", "3.12", "3.13", "3.14") if version != OWN]


class Wheels(unittest.TestCase):
    """A project of the test's own, with an environment whose tools are stand-ins, and a log of what was run."""

    def setUp(self) -> None:
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.project = Path(directory.name).resolve()
        self.log = self.project / "log"
        self.bin = self.project / "bin"
        (self.project / "target").mkdir()
        self.bin.mkdir()
        (self.project / "scripts").mkdir()
        shutil.copy(PROJECT / "scripts/wheels.py", self.project / "scripts")
        venv.create(self.project / ".venv", symlinks=True)
        self.put(
            self.project / ".venv/bin/maturin",
            f"""
            echo "maturin $*" >>{self.log}
            while [ $# -gt 0 ]; do [ "$1" = --out ] && out=$2; shift; done
            mkdir -p $out && touch $out/package.whl""",
        )

    def put(self, path: Path, script: str) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)

    def python(self, path: Path, version: str, implementation: str = "cpython") -> None:
        """A Python whose environments log what is run in them."""
        self.put(self.project / "made", f'echo "$0 $*" >>{self.log}')
        self.put(
            path,
            f"""
            for last; do :; done
            case "$*" in
              *ensurepip*) echo "{implementation} {version.replace(".", " ")} $0" ;;
              *'-m venv'*) mkdir -p $last/bin && cp {self.project}/made $last/bin/python ;;
            esac""",
        )

    def run_(self, *arguments: str, code: int = 0) -> str:
        done = subprocess.run(
            [self.project / ".venv/bin/python", self.project / "scripts/wheels.py", *arguments],
            env={"PATH": f"{self.bin}:/usr/bin:/bin", "HOME": str(self.project), "PYENV_ROOT": f"{self.project}/pyenv"},
            capture_output=True,
            text=True,
            timeout=60,
        )
        self.assertEqual(done.returncode, code, done.stdout + done.stderr)
        return done.stdout + done.stderr

    def ran(self, *words: str) -> list[str]:
        lines = self.log.read_text().replace(f"{self.project}/", "").splitlines()
        return [line for line in lines if all(word in line for word in words)]

    def test_each_other_python_is_named_and_has_a_target_directory_of_its_own(self) -> None:
        one, other, third = OTHERS
        self.python(self.bin / f"python{one}", one)
        # As pyenv's, where no version is chosen: it is found where pyenv keeps it.
        self.put(self.bin / f"python{other}", "echo 'command not found' >&2; exit 127")
        self.python(self.project / f"pyenv/versions/{other}.1/bin/python{other}", other)
        self.python(self.bin / f"python{third}", third, implementation="pypy")
        said = self.run_("test-others", "-k", "some")
        self.assertIn(f"Python {OWN} ", said.splitlines()[0])
        for version in (one, other):
            self.assertIn(f"== testing the wheel for Python {version} (", said)
            (built,) = self.ran("maturin build", f"python{version} ")
            self.assertIn(f"--target-dir target/py{version} ", built)
            (tested,) = self.ran(f"target/py{version}/venv/bin/python -m pytest")
            self.assertTrue(
                tested.endswith("-m not notebook and not leaks and not once and not cluster -k some"), tested
            )
        self.assertEqual(len(self.ran("maturin")), 2)

    def test_the_crates_of_another_build_are_the_beginning_and_its_programs_are_not(self) -> None:
        self.python(self.bin / f"python{OTHERS[0]}", OTHERS[0])
        for other, command, version in (
            ("target", "build", OWN),
            (f"target/py{OWN}/unpacked", "test-others", OTHERS[0]),
        ):
            crates = self.project / other / "release"
            for name in ("build/one", ".fingerprint/one", "deps/libone.rlib", "deps/program"):
                (crates / name).parent.mkdir(parents=True, exist_ok=True)
                (crates / name).touch()
                os.utime(crates / name, ns=(1_234_567, 1_234_567))
            self.run_(command)
            begun = self.project / f"target/py{version}/release"
            self.assertEqual(
                sorted(path.name for path in begun.rglob("*") if path.is_file()), ["libone.rlib", "one", "one"]
            )
            self.assertEqual((begun / "deps/libone.rlib").stat().st_mtime_ns, 1_234_567)

    def test_a_python_that_is_asked_for_and_missing_is_an_error(self) -> None:
        self.assertIn(f"there is no Python {OTHERS[0]} on this machine", self.run_("portable", OTHERS[0], code=1))
        self.assertFalse(self.log.exists())


if __name__ == "__main__":
    unittest.main()
