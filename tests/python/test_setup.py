"""What `make` installs and chooses on machines that lack something, with stand-ins for what it would run there."""

import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import unittest
from pathlib import Path

PROJECT = Path(__file__).parents[2]
# What the scripts may use of a fresh Debian or Ubuntu, and what links.
TOOLS = [
    "awk",
    "cat",
    "cc",
    "cp",
    "dirname",
    "env",
    "ld",
    "mkdir",
    "mktemp",
    "mv",
    "readlink",
    "rm",
    "sh",
    "timeout",
    "touch",
]
LIBRARY = Path(sysconfig.get_config_var("LIBDIR"), sysconfig.get_config_var("INSTSONAME"))
PAGE = "echo '<html><head></head><body></body></html>'"
DEBIAN = os.path.realpath("/usr/bin/python3")


class Machine(unittest.TestCase):
    """A machine of the test's own: a PATH with what it has, and a log of what was run of it."""

    def setUp(self) -> None:
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.project = Path(directory.name)
        self.bin = self.project / "bin"
        self.library = self.project / "lib"
        self.log = self.project / "log"
        self.bin.mkdir()
        self.library.mkdir()
        shutil.copytree(PROJECT / "scripts", self.project / "scripts")
        for name in TOOLS:
            (self.bin / name).symlink_to(shutil.which(name) or f"/usr/bin/{name}")
        sysroot = subprocess.run(["rustc", "--print", "sysroot"], capture_output=True, text=True, check=True)
        (self.bin / "rustc").symlink_to(f"{sysroot.stdout.strip()}/bin/rustc")
        self.has("cargo", "")
        self.has("node", "")
        self.has("npm", "")
        self.has("id", "echo 0")
        self.python()
        self.links()

    def has(self, name: str, script: str) -> None:
        """Puts a command on the PATH; what it is given is logged."""
        self.put(self.bin / name, f'echo "{name} $*" >>{self.log}\n{script}')

    def put(self, path: Path, script: str) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)

    def python(self, name: str = "python3", base: str = DEBIAN, version: str = "", identity: str = "one") -> None:
        """A Python whose library, if it has one, is linked as `pythonstandin` from `self.library`."""
        version = version or sys.version.split()[0]
        self.put(
            self.bin / name,
            f"""
            case "$*" in
              *LDVERSION*) printf '%s\\n' standin {self.library} {version} ;;
              *_base_executable*) echo {base} ;;
              *base_prefix*) echo {identity} ;;
              *'-m venv'*) echo "venv of {identity}" >>{self.log}; mkdir -p .venv/bin; cp "$0" .venv/bin/python ;;
              '-m '*|scripts/wheels.py*) echo "python $*" >>{self.log} ;;
              *) exec {sys.executable} "$@" ;;
            esac""",
        )

    def links(self) -> None:
        """What the library's package installs."""
        for name in ("libpythonstandin.so", LIBRARY.name):
            (self.library / name).symlink_to(LIBRARY)

    def unlinked(self) -> None:
        for path in self.library.iterdir():
            path.unlink()

    def installs(self, *, browser: bool) -> None:
        """An `apt-get` that knows the library's package, and a browser's or not."""
        shell = f"cp {self.project}/new-browser {self.bin}/chromium" if browser else "exit 100"
        self.put(self.project / "new-browser", PAGE)
        self.has(
            "apt-get",
            f"""
            case "$*" in
              *libpython*) cd {self.library} && for name in libpythonstandin.so {LIBRARY.name}; do
                  {sys.executable} -c "import os, sys; os.symlink(*sys.argv[1:])" {LIBRARY} $name; done ;;
              *chromium) {shell} ;;
              *npm) cp {self.project}/new-browser {self.bin}/npm ;;
            esac""",
        )

    def downloads(self, script: str) -> None:
        """An `npx` whose Playwright brings a browser that does this."""
        self.put(self.project / "downloaded", script)
        self.has(
            "npx",
            f"""
            case "$*" in *'install --only-shell chromium')
              to=$PLAYWRIGHT_BROWSERS_PATH/chromium_headless_shell-1/chrome-linux
              mkdir -p $to && cp {self.project}/downloaded $to/headless_shell ;;
            esac""",
        )

    def is_nobody(self) -> None:
        self.has("id", "echo 1000")
        self.has("sudo", "exit 1")

    def run_(self, *command: str, code: int = 0) -> str:
        """Runs a command on that machine; returns what it said."""
        done = subprocess.run(
            command,
            cwd=self.project,
            env={"PATH": str(self.bin), "HOME": str(self.project)},
            capture_output=True,
            text=True,
            timeout=60,
        )
        self.assertEqual(done.returncode, code, done.stdout + done.stderr)
        return done.stderr

    def needs(self, *wanted: str, python: str = "python3", code: int = 0) -> str:
        return self.run_(str(self.project / "scripts/needs"), python, *wanted, code=code)

    def ran(self, *names: str) -> list[str]:
        lines = self.log.read_text().splitlines() if self.log.exists() else []
        return [line for line in lines if line.split()[0] in names]

    def chosen(self) -> str:
        return (self.project / ".browser/chosen").read_text().strip()


class Needs(Machine):
    def test_where_nothing_is_missing_nothing_is_said_or_installed(self) -> None:
        self.installs(browser=True)
        self.downloads(PAGE)
        self.has("chromium", PAGE)
        self.assertEqual(self.needs("browser"), "")
        self.assertEqual(self.ran("apt-get", "npx"), [])
        self.assertEqual(self.chosen(), str(self.bin / "chromium"))

    def test_root_gets_both_from_packages_and_is_told_so_in_one_line(self) -> None:
        self.unlinked()
        self.installs(browser=True)
        self.downloads(PAGE)
        said = self.needs("browser")
        self.assertEqual(said, "installing with apt-get, for it is missing: libpython3-dev chromium\n")
        update, library, browser = self.ran("apt-get")
        self.assertTrue(update.endswith(" update"), update)
        self.assertTrue(library.endswith(" install --yes --no-install-recommends libpython3-dev"), library)
        self.assertTrue(browser.endswith(" install --yes --no-install-recommends chromium"), browser)
        self.assertEqual(self.chosen(), str(self.bin / "chromium"))
        self.assertEqual(self.ran("npx"), [])

    def test_npm_is_installed_where_node_came_without(self) -> None:
        (self.bin / "npm").unlink()
        self.has("chromium", PAGE)
        self.installs(browser=True)
        self.assertEqual(self.needs(), "")
        self.assertEqual(self.needs("browser"), "installing with apt-get, for it is missing: npm\n")
        self.assertTrue((self.bin / "npm").exists())
        (self.bin / "npm").unlink()
        self.is_nobody()
        self.assertIn("make test needs npm", self.needs("browser", code=1))

    def test_only_the_tests_need_a_browser(self) -> None:
        self.unlinked()
        self.installs(browser=True)
        self.assertEqual(self.needs(), "installing with apt-get, for it is missing: libpython3-dev\n")
        self.assertFalse((self.project / ".browser").exists())

    def test_sudo_without_a_password_is_as_good_as_root(self) -> None:
        self.is_nobody()
        self.has("sudo", '[ "$1" = -n ] && shift && case $1 in true) ;; *) exec "$@" ;; esac')
        self.installs(browser=True)
        self.assertEqual(self.needs("browser"), "installing with apt-get, for it is missing: chromium\n")
        self.assertTrue(any("apt-get" in line for line in self.ran("sudo")))
        self.assertEqual(self.chosen(), str(self.bin / "chromium"))

    def test_without_the_right_to_install_playwright_brings_the_browser_into_the_project(self) -> None:
        self.is_nobody()
        self.installs(browser=True)
        self.downloads(PAGE)
        self.assertEqual(self.needs("browser"), "installing a browser with Playwright, into .browser\n")
        (asked,) = self.ran("npx")
        self.assertTrue(asked.endswith(" install --only-shell chromium"), asked)
        self.assertEqual(self.ran("apt-get"), [])
        downloaded = self.project / ".browser/chromium_headless_shell-1/chrome-linux/headless_shell"
        self.assertEqual(self.chosen(), str(downloaded))
        # It is there the next time, too.
        self.assertEqual(self.needs("browser"), "")

    def test_where_no_package_renders_playwright_brings_the_browser_and_its_libraries(self) -> None:
        self.installs(browser=False)
        self.downloads(PAGE)
        said = self.needs("browser").splitlines()
        self.assertEqual(said[0], "installing with apt-get, for it is missing: chromium")
        self.assertEqual(said[-1], "installing a browser with Playwright, into .browser")
        dependencies, browser = self.ran("npx")
        self.assertTrue(dependencies.endswith(" install-deps chromium"), dependencies)
        self.assertTrue(browser.endswith(" install --only-shell chromium"), browser)

    def test_a_stub_is_no_browser_and_the_next_is_tried(self) -> None:
        self.has("chromium", "echo 'requires the chromium snap to be installed' >&2; exit 1")
        self.has("chromium-browser", "echo hello")
        self.has("google-chrome", PAGE)
        self.assertEqual(self.needs("browser"), "")
        self.assertEqual(self.chosen(), str(self.bin / "google-chrome"))

    def test_a_person_is_told_only_when_everything_has_failed(self) -> None:
        self.has("chromium", "exit 1")
        self.installs(browser=False)
        self.downloads("exit 127")
        said = self.needs("browser", code=1)
        self.assertIn("make test needs a browser that renders a page headless, and found none", said)
        self.assertEqual(len(self.ran("chromium", "npx")), 5, self.log.read_text())

    def test_without_npx_and_rights_a_person_is_told(self) -> None:
        self.is_nobody()
        self.assertIn("apt install chromium", self.needs("browser", code=1))

    def test_without_the_right_to_install_the_library_its_package_is_told(self) -> None:
        self.is_nobody()
        self.unlinked()
        self.installs(browser=True)
        said = self.needs(code=1)
        self.assertEqual(said, "python3: its library cannot be linked: apt install libpython3-dev\n")
        self.assertEqual(self.ran("apt-get"), [])

    def test_a_python_of_the_users_own_gets_no_package_but_the_remedy(self) -> None:
        self.unlinked()
        self.installs(browser=True)
        self.python(base="/home/me/.pyenv/versions/3.12.1/bin/python3.12")
        self.assertIn("PYTHON_CONFIGURE_OPTS=--enable-shared pyenv install", self.needs(code=1))
        self.assertEqual(self.ran("apt-get"), [])

    def test_a_second_python_of_the_distribution_has_a_package_of_its_own(self) -> None:
        self.unlinked()
        self.installs(browser=True)
        self.python("python3.99", base="/usr/bin/python3.99")
        said = self.needs(python="python3.99")
        self.assertEqual(said, "installing with apt-get, for it is missing: libpython3.99-dev\n")

    def test_the_library_of_another_python_does_not_count(self) -> None:
        self.python(base="/home/me/bin/python3", version="3.11.99")
        self.assertIn("it has no shared library to link, or not its own", self.needs(code=1))

    def test_a_linker_that_is_missing_is_not_taken_for_the_library(self) -> None:
        (self.bin / "cc").unlink()
        self.installs(browser=True)
        self.assertIn("Rust needs a linker (Debian: apt install gcc libc6-dev)", self.needs(code=1))
        self.assertEqual(self.ran("apt-get"), [])

    def test_the_choice_is_kept_until_it_is_gone(self) -> None:
        look = str(self.project / "scripts/browser")
        self.has("google-chrome", PAGE)
        self.run_(look)
        self.has("chromium", PAGE)
        self.run_(look)
        self.assertEqual(self.chosen(), str(self.bin / "google-chrome"))
        self.assertEqual(len(self.ran("google-chrome", "chromium")), 1)
        (self.bin / "google-chrome").unlink()
        self.run_(look)
        self.assertEqual(self.chosen(), str(self.bin / "chromium"))
        (self.bin / "chromium").unlink()
        self.run_(look, code=1)


class Make(Machine):
    def setUp(self) -> None:
        super().setUp()
        (self.project / "src/local_model").mkdir(parents=True)
        for name in ("Makefile", "requirements.txt", "constraints.txt", "src/local_model/requirements.txt"):
            shutil.copy(PROJECT / name, self.project / name)
        for name in ("requirements.txt", "package.json"):
            (self.project / "tests/node_modules").mkdir(parents=True, exist_ok=True)
            shutil.copy(PROJECT / "tests" / name, self.project / "tests")
        self.put(self.project / "target/release/tokio-asyncio-bridge", f'echo "program $*" >>{self.log}')

    def make(self, *arguments: str, code: int = 0) -> str:
        return self.run_(shutil.which("make"), *arguments, code=code)

    def test_make_run_sets_everything_up(self) -> None:
        self.unlinked()
        self.installs(browser=True)
        self.make("run")
        steps = [line.split(" --")[0] for line in self.ran("venv", "cargo", "program")]
        self.assertEqual(steps, ["venv of one", "cargo build", "program process data/questions.csv"])
        self.assertTrue(self.ran("apt-get")[-1].endswith(" libpython3-dev"))
        self.assertFalse((self.project / ".browser").exists())

    def test_make_test_sets_everything_up(self) -> None:
        self.unlinked()
        self.installs(browser=True)
        self.make("test")
        steps = [line.split(" --")[0] for line in self.ran("venv", "npm", "cargo", "python")]
        packages = ["python -m pip install"] * 3
        # What is in a set runs side by side.
        built = {"cargo build", "cargo test", "python scripts/wheels.py build"}
        python = "python -m unittest discover"
        tested = {"cargo test", "python scripts/wheels.py test -m not cluster"}
        self.assertEqual(steps[:-6], ["venv of one", *packages, "npm install"])
        self.assertEqual([set(steps[-6:-3]), steps[-3], set(steps[-2:])], [built, python, tested])
        self.assertEqual(self.chosen(), str(self.bin / "chromium"))

    def test_what_is_missing_is_told_before_anything_is_set_up(self) -> None:
        self.is_nobody()
        self.assertIn("make test needs a browser", self.make("test", code=2))
        self.assertEqual(self.ran("venv", "cargo", "npm"), [])

    def test_another_python_gets_an_environment_of_its_own(self) -> None:
        self.python("python3.12", identity="two")
        self.make("build")
        self.make("build")
        self.assertEqual(self.ran("venv"), ["venv of one"])
        (self.project / ".venv/left").touch()
        self.make("build", "PYTHON=python3.12")
        self.make("build", "PYTHON=python3.12")
        self.assertEqual(self.ran("venv"), ["venv of one", "venv of two"])
        self.assertFalse((self.project / ".venv/left").exists())
        self.make("build")
        self.assertEqual(self.ran("venv"), ["venv of one", "venv of two", "venv of one"])
        self.assertEqual(len(self.ran("cargo")), 5)


if __name__ == "__main__":
    unittest.main()
