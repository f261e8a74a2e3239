"""Answers rows as they come, and takes each outcome as soon as it is there. Memory stays bounded."""

import asyncio
import random
from collections.abc import AsyncIterator

import tokio_asyncio_bridge as tab


async def questions() -> AsyncIterator[dict[str, int]]:
    """An endless source. It is asked for a row only when there is room for one."""
    number = 0
    while True:
        await asyncio.sleep(0)
        yield {"number": number}
        number += 1


async def square(number: int) -> int:
    await asyncio.sleep(random.uniform(0.0, 0.02))
    return number * number


async def main() -> None:
    taken = 0
    async for outcome in tab.stream(questions(), square, concurrency=16):
        print(f"{outcome.row['number']}² = {outcome.result()}")
        taken += 1
        if taken == 20:
            break  # what is still running is cancelled


asyncio.run(main())
