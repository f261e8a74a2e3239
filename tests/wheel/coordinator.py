"""A coordinator for tests of the relay: it speaks the control protocol, and the frames of workers, byte by byte."""

import array
import json
import os
import queue
import select
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import msgpack

Message = dict[str, Any]
# A busy machine takes long to start Ray.
SOON = 150.0


class Relay:
    """A relay, and the control socket to it."""

    def __init__(self, control: socket.socket, process: subprocess.Popen[bytes]) -> None:
        self.control, self.process = control, process
        self._rest = b""
        self._heard: list[Message] = []
        self._number = 0

    def say(self, message: Message, stream: socket.socket | None = None) -> None:
        line = json.dumps(message).encode() + b"\n"
        if stream is None:
            self.control.sendall(line)
        else:
            rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [stream.fileno()]))]
            assert self.control.sendmsg([line], rights) == len(line)

    def hear(self, key: str, number: int | None = None, within: float = SOON) -> Message:
        """Waits for a message with this key. Others are kept for later."""
        until = time.monotonic() + within
        while True:
            for message in self._heard:
                if key in message and (number is None or message[key] == number):
                    self._heard.remove(message)
                    return message
            left = until - time.monotonic()
            if left <= 0 or not select.select([self.control], [], [], left)[0]:
                raise TimeoutError(f"no `{key}` within {within} s, but {self._heard}")
            data = self.control.recv(1 << 16)
            if not data:
                raise EOFError(f"the relay has ended: {self._heard}")
            *lines, self._rest = (self._rest + data).split(b"\n")
            self._heard += [json.loads(line) for line in lines]

    def heard(self, key: str) -> list[Message]:
        """The messages with this key that have come, and that nobody has waited for."""
        while select.select([self.control], [], [], 0)[0] and (data := self.control.recv(1 << 16)):
            *lines, self._rest = (self._rest + data).split(b"\n")
            self._heard += [json.loads(line) for line in lines]
        return [message for message in self._heard if key in message]

    def start(self) -> "Worker":
        """Asks for an actor."""
        self._number += 1
        here, there = socket.socketpair()
        self.say({"start": self._number}, there)
        there.close()
        return Worker(self, self._number, here)


class Worker:
    """An actor that was asked for, and the coordinator's end of its stream, which is read all the time."""

    def __init__(self, relay: Relay, number: int, stream: socket.socket) -> None:
        self.relay, self.number, self.stream = relay, number, stream
        self._messages: queue.SimpleQueue[Any] = queue.SimpleQueue()
        # Nothing more is read while this is clear.
        self.reading = threading.Event()
        self.reading.set()
        threading.Thread(target=self._read, daemon=True).start()

    def placed(self, within: float = SOON) -> Message:
        return self.relay.hear("placed", self.number, within)

    def died(self, within: float = SOON) -> Message:
        return self.relay.hear("died", self.number, within)

    def say(self, *messages: Any) -> None:
        """Sends a frame with these messages."""
        packed = [msgpack.packb(message) for message in messages]
        frame = b"".join(len(message).to_bytes(4, "little") + message for message in packed)
        self.stream.sendall(len(frame).to_bytes(4, "big") + frame)

    def hear(self, within: float = SOON) -> Any:
        """The next message but pulses; None at the end of the stream."""
        return self._messages.get(timeout=within)

    def close(self) -> None:
        """Closes this end of the stream."""
        self.stream.shutdown(socket.SHUT_RDWR)

    def _read(self) -> None:
        with self.stream.makefile("rb") as stream:
            while head := stream.read(4):
                self.reading.wait()
                frame = stream.read(int.from_bytes(head, "big"))
                while frame:
                    length = int.from_bytes(frame[:4], "little")
                    message = msgpack.unpackb(frame[4 : 4 + length])
                    if not (isinstance(message, dict) and "Pulse" in message):
                        self._messages.put(message)
                    frame = frame[4 + length :]
        self._messages.put(None)

    def load(self, spec: str, secrets: list[str] | None = None, variables: dict[str, str] | None = None) -> None:
        """Asks for a predictor."""
        load = {
            "python": None,
            "variables": list((variables or {}).items()),
            "event_loop": "Asyncio",
            "predictor": spec,
            "signature": "question -> answer",
            "program": None,
            "calls": 1000,
            "names_model": False,
            "is_model_local": False,
            "quiet": True,
        }
        order = {"load": load, "parcel": None, "variables": [], "secrets": secrets or [], "packages": ["ray"]}
        self.say({"Hello": [_version(), msgpack.packb(order)]})

    def ready(self, spec: str, **order: Any) -> Message:
        """Waits until the actor is there and has loaded a predictor. Returns where it is."""
        placed = self.placed()
        self.load(spec, **order)
        while "Ready" not in (message := self.hear()):
            assert isinstance(message, dict) and "Refused" not in message, message
        return placed

    def ask(self, call: int, question: str) -> None:
        self.say({"c": [call, call, 1, [["question", question]]]})

    def answer(self, within: float = SOON) -> tuple[int, Any]:
        """The next answer: the call, and its first field."""
        while True:
            message = self.hear(within)
            assert message is not None, "the stream has ended"
            if "e" in message:
                call, reply, _, _ = message["e"]
                if reply is not None:
                    return call, reply["f"][0][1] if "f" in reply else reply


def _version() -> str:
    from tokio_asyncio_bridge import _native

    return _native.VERSION


@contextmanager
def relay(connect: Message | None, *words: str, **variables: str) -> Iterator[Relay]:
    """A relay that is connected, if the request is given."""
    here, there = socket.socketpair()
    command = [sys.executable, *(words or ("-m", "tokio_asyncio_bridge._ray"))]
    process = subprocess.Popen(command, stdin=there, stdout=2, env={**os.environ, **variables}, start_new_session=True)
    there.close()
    try:
        if connect is not None:
            here.sendall(json.dumps({"connect": connect}).encode() + b"\n")
        yield Relay(here, process)
    finally:
        here.close()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise
