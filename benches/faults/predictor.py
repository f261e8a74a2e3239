"""The predictor that all systems call: an `async def` that asks the server and raises on an error status.

`FAULTS_URL` is the server, and `FAULTS_DIRECTORY` a directory where each process that calls leaves its id. The question
in `FAULTS_POISON` kills its process, as a fault in a native library does.
"""

import asyncio
import ctypes
import json
import os
from pathlib import Path

import aiohttp

_sessions: dict[asyncio.AbstractEventLoop, aiohttp.ClientSession] = {}


def _session() -> aiohttp.ClientSession:
    """The session of this event loop, without a bound of its own on connections."""
    loop = asyncio.get_running_loop()
    if loop not in _sessions:
        (Path(os.environ["FAULTS_DIRECTORY"]) / f"process-{os.getpid()}").touch()
        _sessions[loop] = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0))
    return _sessions[loop]


async def ask(question: str) -> str:
    """Asks for a chat completion, once. A status of 400 and more raises.

    It is streamed, as aimock journals such a request when it begins, so that those of processes that die are counted.
    mocklimit does not stream.
    """
    session = _session()
    if question == os.environ.get("FAULTS_POISON"):
        with (Path(os.environ["FAULTS_DIRECTORY"]) / "poisoned").open("a") as noted:
            noted.write(".")
        ctypes.string_at(0)
    body = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": question}], "stream": True}
    async with session.post(f"{os.environ['FAULTS_URL']}/v1/chat/completions", json=body) as response:
        response.raise_for_status()
        if response.content_type == "application/json":
            answer: str = (await response.json())["choices"][0]["message"]["content"]
            return answer
        chunks = [json.loads(line[6:]) async for line in response.content if line.startswith(b"data: {")]
        return "".join(chunk["choices"][0]["delta"].get("content") or "" for chunk in chunks if chunk["choices"])
