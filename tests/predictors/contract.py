"""Predictors of the bridge contract suite; `seen` counts what happened, for the test to read."""

import asyncio
import collections
import contextvars
import threading

seen = collections.Counter()
variable = contextvars.ContextVar("variable", default="unset")
variable.set("set at import")


async def echo(question):
    return question


async def sleeper(question):
    seen[f"started {question}"] += 1
    try:
        await asyncio.sleep(float(question))
    except asyncio.CancelledError:
        seen[f"cancelled {question}"] += 1
        raise
    return question


async def mixed(question):
    await asyncio.sleep(0)
    if question == "value error":
        raise ValueError("no good")
    if question == "exit":
        raise SystemExit(3)
    if question == "interrupt":
        raise KeyboardInterrupt
    if question == "cancel":
        raise asyncio.CancelledError("by itself")
    if question == "generator exit":
        raise GeneratorExit
    if question == "stop":
        asyncio.get_running_loop().stop()
    if question == "cancel itself":
        asyncio.current_task().cancel()
    if question == "unprintable":
        raise Unprintable
    if question == "no answer":
        return object()
    if question == "surrogate":
        return "paid \ud800 for"
    return question


class Unprintable(Exception):
    def __str__(self):
        raise RuntimeError("not even this")


async def isolated(question):
    before = variable.get()
    variable.set(question)
    await asyncio.sleep(0.001)
    return f"{before}, {variable.get()}"


async def stubborn(question):
    for _ in range(int(question)):
        try:
            await asyncio.sleep(0.05)
        except asyncio.CancelledError:
            seen["ignored"] += 1
    return "late"


async def timed(question):
    async with asyncio.timeout(0.01):
        await asyncio.sleep(10)


async def streamed(question):
    for word in question.split():
        await asyncio.sleep(0.01)
        yield word


async def together(question):
    """Ends at once, or in the next turn, or when as many calls as `question` says have begun."""
    if not question.isdecimal():
        if question == "next turn":
            await asyncio.sleep(0)
        return question
    seen["together"] += 1
    while seen["together"] < int(question):
        await asyncio.sleep(0.01)
    return question


async def reckless(question):
    if question == "cancel all":
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()
    return question


def threaded(question):
    with lock:
        seen["threads"] += 1
        seen["most"] = max(seen["most"], seen["threads"])
    barrier.wait(10)
    with lock:
        seen["threads"] -= 1
    return threading.current_thread().name + " " + question


lock = threading.Lock()
barrier = threading.Barrier(50)
