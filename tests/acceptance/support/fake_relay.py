"""A relay without Ray: its actors are worker processes of this machine, and it does what the file `orders` says.

An order is a line: `capacity N`, `unseen` (later deaths are not proven), `lost`. Each actor is noted in the file
`actors` as its number and its process.
"""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time

control = socket.socket(fileno=0)
lock = threading.RLock()
capacity = int(os.environ.get("FAKE_CAPACITY", "2"))
# Room that others take.
taken = int(os.environ.get("FAKE_TAKEN", "0"))
# Once so many actors want room, there is room for them.
scales = int(os.environ.get("FAKE_SCALES", "0"))
proven = True
waiting: list[tuple[int, int]] = []
alive: dict[int, subprocess.Popen[bytes]] = {}
shunned: set[str] = set()
placed: dict[int, str] = {}


def say(**what: object) -> None:
    with lock:
        control.sendall(json.dumps(what).encode() + b"\n")


def place() -> None:
    """Starts those that wait, as far as there is room."""
    with lock:
        while waiting and len(alive) < capacity - taken:
            actor, fd = waiting.pop(0)
            if os.path.exists("cannot"):
                os.close(fd)
                say(cannot=actor, why="the node has another version")
                continue
            program = [os.environ["FAKE_WORKER"], "worker", str(os.getpid())]
            node = next(name for name in (f"node-{actor % 2}", "node-0", "node-1") if name not in shunned)
            placed[actor] = node
            environment = {**os.environ, "NODE": node}
            environment.pop(os.environ.get("FAKE_WITHOUT", ""), None)
            process = subprocess.Popen(program, stdin=fd, start_new_session=True, env=environment)
            alive[actor] = process
            with open("actors", "a") as file:
                file.write(f"{actor} {process.pid}\n")
            say(placed=actor, node=node, pid=process.pid)
            threading.Thread(target=bury, args=(actor, fd, process), daemon=True).start()
        for actor, _ in waiting:
            say(waiting=actor, why=f"no node has room: {len(alive) + taken} of {capacity} are taken")


def bury(actor: int, fd: int, process: "subprocess.Popen[bytes]") -> None:
    code = process.wait()
    with lock:
        del alive[actor]
        how = f"died ({signal.Signals(-code).name})" if code < 0 else f"exited (code {code})"
        say(died=actor, how=how, proven=proven, oom=False)
        os.close(fd)
        place()


def kill(actor: int) -> None:
    with lock:
        if actor in alive:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(alive[actor].pid, signal.SIGKILL)
        for entry in [entry for entry in waiting if entry[0] == actor]:
            waiting.remove(entry)
            os.close(entry[1])
            say(died=actor, how="was never placed", proven=True, oom=False)


def obey() -> None:
    """Does what the file of orders says, once each."""
    global capacity, proven
    done = 0
    while True:
        time.sleep(0.01)
        if not os.path.exists("orders"):
            continue
        with open("orders") as file:
            lines = [line for line in file.read().split("\n")[:-1]]
        for line in lines[done:]:
            match line.split():
                case ["capacity", number]:
                    capacity = int(number)
                    say(capacity=capacity)
                    place()
                case ["unseen"]:
                    proven = False
                case ["lost"]:
                    say(lost="the head is gone")
                    os._exit(1)
        done = len(lines)
        with open("obeyed", "w") as file:
            file.write("\n" * done)


def hear(message: dict[str, object], fds: list[int]) -> None:
    global capacity
    match message:
        case {"connect": asked}:
            with open("asked.json", "w") as file:
                json.dump(asked, file)
            if os.path.exists("unreachable"):
                say(failed="there is no cluster\nhint: start one", unreachable=True)
                sys.exit(1)
            gone_after = float(os.environ.get("FAKE_GONE_AFTER", "0"))
            if os.path.exists("refused"):
                say(failed="Ray 2.0.0 is there")
                sys.exit(1)
            say(connected={"capacity": capacity, "note": "a fake", "gone_after": gone_after})
            threading.Thread(target=obey, daemon=True).start()
        case {"start": int(actor)}:
            with lock:
                waiting.append((actor, fds.pop(0)))
                if capacity < scales <= len(waiting) + len(alive):
                    capacity = scales
                    say(capacity=capacity)
            place()
        case {"kill": int(actor)}:
            kill(actor)
        case {"refused": int(actor)}:
            shunned.add(placed[actor])
        case {"close": _}:
            with open("closed", "w"):
                sys.exit(0)


def main() -> None:
    with open("relay", "w") as file:
        file.write(str(os.getpid()))
    print("the relay logs", file=sys.stderr)
    pending, fds = b"", []
    while True:
        data, more, _, _ = socket.recv_fds(control, 65536, 8)
        if not data:
            os._exit(1)
        fds += more
        *lines, pending = (pending + data).split(b"\n")
        for line in lines:
            hear(json.loads(line), fds)


main()
