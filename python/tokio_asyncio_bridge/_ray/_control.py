"""The control socket: messages to and from the coordinator, each a line of JSON."""

import array
import asyncio
import contextlib
import json
import os
import select
import socket
import threading
from collections import deque
from collections.abc import Callable
from typing import Any

_SIZE = 1 << 16
_DESCRIPTORS = 16


class Control:
    """The relay's end."""

    def __init__(self, stream: socket.socket) -> None:
        self._stream = stream
        self._lines: deque[bytes] = deque()
        self._rest = b""
        self._descriptors: deque[int] = deque()
        self._telling = threading.Lock()

    @classmethod
    def take(cls) -> "Control":
        """The control socket that is this process's standard input, which is empty from then on."""
        stream = socket.socket(fileno=os.dup(0))
        null = os.open(os.devnull, os.O_RDONLY)
        os.dup2(null, 0)
        os.close(null)
        stream.setblocking(True)
        return cls(stream)

    def tell(self, message: dict[str, Any]) -> None:
        """Sends a message. Does nothing if the coordinator is gone."""
        line = json.dumps(message).encode() + b"\n"
        with self._telling, contextlib.suppress(OSError):
            self._stream.sendall(line)

    def hear(self) -> tuple[dict[str, Any], int | None] | None:
        """Waits for the next message, with the descriptor that came with it; None if the coordinator is gone."""
        while not self._lines:
            try:
                data, ancillary, _, _ = self._stream.recvmsg(_SIZE, socket.CMSG_SPACE(_DESCRIPTORS * 4))
            except ConnectionError:
                return None
            for level, kind, content in ancillary:
                if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                    numbers = array.array("i")
                    numbers.frombytes(content[: len(content) - len(content) % numbers.itemsize])
                    self._descriptors.extend(numbers)
            if not data:
                return None
            *lines, self._rest = (self._rest + data).split(b"\n")
            self._lines.extend(lines)
        message = json.loads(self._lines.popleft())
        # The kernel never passes on a descriptor later than the bytes that it came with.
        return message, self._descriptors.popleft() if "start" in message else None

    def hear_in(self, loop: asyncio.AbstractEventLoop, take: Callable[..., None]) -> None:
        """Passes each message and its descriptor to `take` on the loop, from a thread of its own."""

        def run() -> None:
            while (heard := self.hear()) is not None:
                loop.call_soon_threadsafe(take, *heard)

        threading.Thread(target=run, name="control", daemon=True).start()

    def watch(self, gone: Callable[[], None]) -> None:
        """Calls `gone` on a thread of its own once the coordinator is gone."""

        def run() -> None:
            poll = select.poll()
            poll.register(self._stream, select.POLLRDHUP)
            while not poll.poll():
                pass
            gone()

        threading.Thread(target=run, name="coordinator", daemon=True).start()
