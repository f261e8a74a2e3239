"""What is told of where code was, and where texts are cut."""

import functools
import sys
import threading
import time
import unittest
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

# The files form a package, which the program makes of what it holds.
package = ModuleType("_tokio_asyncio_bridge")
package.__path__ = [str(Path(__file__).parents[2] / "src/bridge/python")]
sys.modules.setdefault(package.__name__, package)

from _tokio_asyncio_bridge.traces import raised, shorten, where_is  # noqa: E402

Seen = tuple[str, str, int | None, str | None]


def seen(wait: Callable[[threading.Event], object]) -> Seen:
    """What is seen of a thread that waits for the event."""
    done = threading.Event()
    thread = threading.Thread(target=wait, args=(done,), daemon=True)
    thread.start()
    while not done._cond._waiters:  # type: ignore[attr-defined]
        time.sleep(0.001)
    found = where_is(thread.ident or 0)
    done.set()
    thread.join()
    assert found
    return found


def even(done: threading.Event, depth: int = 0) -> None:
    if depth:
        odd(done, depth - 1)
    else:
        done.wait()


def odd(done: threading.Event, depth: int) -> None:
    even(done, depth - 1)


class Where(unittest.TestCase):
    def test_the_stack_has_the_users_frames_and_the_innermost_and_fits_the_line(self) -> None:
        line, stack, row, imported = seen(even)
        self.assertIn(f"{__file__}:", line)
        self.assertTrue(line.endswith(" in even: done.wait()"), line)
        lines = stack.splitlines()
        self.assertEqual(lines[0], "Stack (most recent call last):")
        self.assertEqual((len(lines), lines[2]), (5, "    done.wait()"), stack)
        self.assertIn("threading.py", lines[3])
        self.assertEqual((row, imported), (None, None))

    def test_a_stack_without_files_of_the_users_own_is_shown_whole(self) -> None:
        line, stack, _, _ = seen(threading.Event.wait)
        self.assertIn("threading.py", line)
        self.assertIn("in run\n", stack)
        self.assertIn("in wait\n", stack)

    def test_a_long_stack_keeps_its_header_and_whole_lines(self) -> None:
        _, stack, _, _ = seen(functools.partial(even, depth=100))
        first, second, third, *_ = stack.splitlines()
        self.assertEqual([first, second], ["Stack (most recent call last):", "  ..."])
        self.assertRegex(third, "^  (File|  odd|  even)")
        self.assertLess(len(stack), 4_100)


class Cut(unittest.TestCase):
    def test_no_word_is_cut_in_two_for_it_may_be_a_secret(self) -> None:
        secret = "planted-secret-value"
        for before in range(9_960, 10_020):
            text = shorten(f"{'x ' * (before // 2)}{secret} {'y' * 500}")
            self.assertEqual("planted" in text, secret in text, text[-60:])
            self.assertIn(" more characters)", text)

    def test_a_long_word_is_cut_where_it_must_be(self) -> None:
        self.assertEqual(shorten("x" * 10_002), "x" * 10_000 + "... (2 more characters)")

    def test_a_traceback_begins_with_a_whole_line(self) -> None:
        for length in range(3_900, 4_100):
            error = ValueError(f"planted-secret-value\n{'y' * length}")
            text = raised(error, error)
            self.assertEqual("value\n" in text, "ValueError: planted-secret-value\n" in text, text[:80])


if __name__ == "__main__":
    unittest.main()
