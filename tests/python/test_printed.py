"""The veil over another program's streams: what is printed goes where it went, with secrets masked."""

import io
import sys
import unittest
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest import mock

# The files form a package, which the program makes of what it holds.
package = ModuleType("_tokio_asyncio_bridge")
package.__path__ = [str(Path(__file__).parents[2] / "src/bridge/python")]
sys.modules.setdefault(package.__name__, package)

from _tokio_asyncio_bridge import printed  # noqa: E402


class Veil(unittest.TestCase):
    def setUp(self) -> None:
        self.below = io.StringIO()
        for name in ("stdout", "stderr"):
            patch = mock.patch.object(sys, name, self.below)
            patch.start()
            self.addCleanup(patch.stop)
        printed.veil_with(lambda text: text.replace(b"key", b"***") if b"key" in text else None)
        self.addCleanup(printed.unveil)

    def test_a_function_that_ipython_puts_in_place_of_write_for_a_cell_sees_what_is_written_once(self) -> None:
        seen: list[str] = []
        printed.veil()
        stream: Any = sys.stdout
        # As `InteractiveShell._tee` does around a cell that begins while a job is alive.
        original = stream.write

        def tee(text: str) -> int:
            seen.append(text)
            return original(text)

        stream.write = tee
        stream.write("the key")
        stream.write = original
        printed.unveil()
        self.assertEqual((seen, self.below.getvalue()), (["the key"], "the ***"))
        self.assertIs(sys.stdout, self.below)
        self.assertNotIn("write", vars(self.below))


if __name__ == "__main__":
    unittest.main()
