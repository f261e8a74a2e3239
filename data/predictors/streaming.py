"""An async generator: its chunks are joined, and the report tells the time to the first one."""

import asyncio
from collections.abc import AsyncIterator


async def predict(question: str) -> AsyncIterator[str]:
    for word in f"You asked: {question}".split():
        await asyncio.sleep(0.02)
        yield word + " "
