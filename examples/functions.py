"""The Python functions that `demo` calls. Nothing in them knows of Rust.

Any of them is a predictor, too: `process data/questions.csv --predictor examples/functions.py:recite`.
"""

import asyncio
from collections.abc import AsyncIterator


async def wait_a_second(question: str) -> str:
    """Stands for a model that always takes one second."""
    await asyncio.sleep(1)
    return f"An answer to: {question}"


async def shout(question: str) -> str:
    """An async function, of which any will do."""
    await asyncio.sleep(0.1)
    return question.upper()


async def recite(question: str) -> AsyncIterator[str]:
    """Answers in chunks, as a streaming model does."""
    for chunk in ("One ", "word ", "at ", "a ", "time."):
        await asyncio.sleep(0.1)
        yield chunk


async def raise_value_error(question: str) -> str:
    """Fails with a Python exception."""
    raise ValueError(f"no answer to {question!r}")


async def return_a_complex_number(question: str) -> complex:
    """Returns the wrong type, for JSON has no complex numbers."""
    return 42j


not_a_predictor = 42
"""An object that cannot be called."""
