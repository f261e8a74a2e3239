"""Plain functions on threads: a call that is reported failed never runs later. `make test` runs this."""

import asyncio
import sys
import threading
import unittest
from pathlib import Path
from types import ModuleType
from unittest import mock

# The files form a package, which the program makes of what it holds.
package = ModuleType("_tokio_asyncio_bridge")
package.__path__ = [str(Path(__file__).parents[2] / "src/bridge/python")]
package.warn = print
package.is_guest = False
sys.modules[package.__name__] = package

from _tokio_asyncio_bridge.threads import Threads  # noqa: E402


class Marks:
    """Notes whether its call began."""

    def __init__(self) -> None:
        self.begun = False

    def begin(self) -> None:
        self.begun = True

    def end(self) -> None:
        pass


class ThreadsTest(unittest.TestCase):
    def test_a_call_without_a_thread_fails_and_never_runs(self) -> None:
        pool, ran = Threads(), []

        async def calls() -> str:
            refused = RuntimeError("can't start new thread")
            with (
                mock.patch.object(threading.Thread, "start", side_effect=refused),
                self.assertRaises(RuntimeError),
            ):
                await pool.run(Marks(), lambda: ran.append(1), {})
            # The next one gets its own thread and its own work.
            return await pool.run(Marks(), lambda: "second", {})

        self.assertEqual(asyncio.run(asyncio.wait_for(calls(), 5)), "second")
        self.assertEqual(ran, [])

    def test_a_call_cancelled_before_its_thread_takes_it_up_never_begins(self) -> None:
        pool, ran, marks, held = Threads(), [], Marks(), []
        pool._submit = held.append

        async def calls() -> None:
            call = asyncio.create_task(pool.run(marks, lambda: ran.append(1), {}))
            await asyncio.sleep(0)
            self.assertEqual(len(held), 1)
            call.cancel()
            await asyncio.gather(call, return_exceptions=True)
            held[0]()

        asyncio.run(calls())
        self.assertEqual((ran, marks.begun), ([], False))
