"""What `benches/dspy.rs` measures beside the program: DSPy as it is called otherwise, and its parts.

`dspy_peers.py MODE API_BASE ROWS IN_FLIGHT` prints wall and processor seconds of ROWS calls, after some to warm up;
MODE `ours` runs `$PROGRAM`.
"""

import asyncio
import functools
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"

import dspy
from dspy.clients.engines import AsyncLM15Engine, LM15Engine
from dspy.lm15 import Message, Request, Response, RouterConfig, TextPart, Usage

MODEL = "openai/gpt-4o-mini"
REPLY = "[[ ## reasoning ## ]]\nBy heart.\n\n[[ ## answer ## ]]\nAnswer\n\n[[ ## completed ## ]]"


class Canned:
    """An engine without HTTP."""

    def complete(self, request: Request) -> Response:
        usage = Usage(input_tokens=100, output_tokens=10, total_tokens=110)
        reply = Message.assistant([TextPart(REPLY)])
        return Response(id=None, model="canned", message=reply, finish_reason="stop", usage=usage)


class AsyncCanned(Canned):
    async def complete(self, request: Request) -> Response:
        return super().complete(request)


def configuration(base: str, connections: int) -> RouterConfig:
    return RouterConfig(
        api_keys={"openai-chat": "none"}, base_urls={"openai-chat": base}, max_connections=max(connections, 100)
    )


def language_model(mode: str, base: str, in_flight: int) -> dspy.LM:
    if mode == "floor":
        return dspy.LM(MODEL, cache=False, num_retries=0, engine=Canned(), async_engine=AsyncCanned())
    if mode == "gather_tuned":
        config = configuration(base, in_flight)
        engines = {"engine": LM15Engine(config), "async_engine": AsyncLM15Engine(config)}
        return dspy.LM(MODEL, cache=False, num_retries=0, **engines)
    return dspy.LM(MODEL, cache=False, num_retries=0, api_base=base, api_key="none")


async def gathered(call: Callable[[int], Awaitable[object]], rows: int, in_flight: int) -> None:
    slots = asyncio.Semaphore(in_flight)

    async def one(row: int) -> None:
        async with slots:
            await call(row)

    await asyncio.gather(*(one(row) for row in range(rows)))


async def alone(call: Callable[[int], Awaitable[object]], rows: int, in_flight: int) -> tuple[float, float]:
    await gathered(call, in_flight, in_flight)
    wall, cpu = time.perf_counter(), time.process_time()
    await gathered(call, rows, in_flight)
    return time.perf_counter() - wall, time.process_time() - cpu


def measured(mode: str, base: str, rows: int, in_flight: int) -> tuple[float, float]:
    adapter = dspy.ChatAdapter(use_json_adapter_fallback=False)
    dspy.configure(lm=language_model(mode, base, in_flight), adapter=adapter, disable_history=mode != "gather")
    predict = dspy.ChainOfThought("question -> answer")
    if mode == "engine":
        engine = AsyncLM15Engine(configuration(base, in_flight))
        return asyncio.run(
            alone(
                lambda row: engine.complete(Request(model=MODEL, messages=[Message.user(f"Question {row}?")])),
                rows,
                in_flight,
            )
        )
    if mode == "parallel":
        dspy.settings.configure(disable_history=False)
        parallel = dspy.Parallel(num_threads=in_flight, disable_progress_bar=True)
        pairs = [(predict, dspy.Example(question=f"Question {row}?").with_inputs("question")) for row in range(rows)]
        parallel(pairs[:in_flight])
        wall, cpu = time.perf_counter(), time.process_time()
        parallel(pairs)
        return time.perf_counter() - wall, time.process_time() - cpu
    return asyncio.run(alone(lambda row: predict.acall(question=f"Question {row}?"), rows, in_flight))


def ours(base: str, rows: int, in_flight: int) -> tuple[float, float]:
    """The program's wall time of all calls; its processor time without what starting and a few calls take."""
    with tempfile.TemporaryDirectory() as directory:

        def run(count: int) -> tuple[float, float]:
            with open(f"{directory}/questions.csv", "w") as questions:
                questions.write("question\n" + "".join(f"Question {row}?\n" for row in range(count)))
            command = [os.environ["PROGRAM"], "process", f"{directory}/questions.csv", "--model", MODEL, "--quiet"]
            command += ["--api-base", base, "-c", str(in_flight), "--force", "-o", f"{directory}/answers.csv"]
            command += ["--python", sys.executable]
            before = resource.getrusage(resource.RUSAGE_CHILDREN)
            subprocess.run(command, check=True)
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
            with open(f"{directory}/answers.csv.report.json") as report:
                wall = json.load(report)["wall_s"]
            return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

        (_, start), (wall, cpu) = run(in_flight), run(rows)
        return wall, (cpu - start) * rows / (rows - in_flight)


if __name__ == "__main__":
    mode, base, rows, in_flight = sys.argv[1:]
    measure = ours if mode == "ours" else functools.partial(measured, mode)
    wall, cpu = measure(base, int(rows), int(in_flight))
    print(json.dumps({"wall_s": wall, "cpu_s": cpu}))
