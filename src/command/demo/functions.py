"""The Python functions that `demo` calls. Nothing in them knows of Rust."""

import asyncio
from collections.abc import AsyncIterator


async def wait_a_second(question: str) -> str:
    """Stands for a model that always takes one second."""
    await asyncio.sleep(1)
    return f"An answer to: {question}"


async def shout(question: str) -> str:
    """Any async function will do."""
    await asyncio.sleep(0.1)
    return question.upper()


async def recite(question: str) -> AsyncIterator[str]:
    """An answer in chunks, as a streaming model gives it."""
    for chunk in ("One ", "word ", "at ", "a ", "time."):
        await asyncio.sleep(0.1)
        yield chunk


async def raise_value_error(question: str) -> str:
    """A Python exception."""
    raise ValueError(f"no answer to {question!r}")


async def return_a_complex_number(question: str) -> complex:
    """The wrong type: JSON has no complex numbers."""
    return 42j


not_a_predictor = 42
"""An invalid object: it cannot be called."""
