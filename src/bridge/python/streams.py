"""Async-generator predictors: their chunks make one answer."""

import sys
from collections.abc import AsyncIterator, Callable
from typing import Any


def _is_status(chunk: Any) -> bool:
    """Whether it only says what a streamified program is about to do."""
    messages = sys.modules.get("dspy.streaming.messages")
    return messages is not None and isinstance(chunk, messages.StatusMessage)


def joined(generator: Callable[..., AsyncIterator[Any]]) -> Callable[..., Any]:
    """Makes an async function of it: text chunks are joined; a structured last chunk is the answer itself."""

    async def stream(*, on_first_chunk: Callable[[], None], **arguments: Any) -> Any:
        parts: list[str] = []
        final: Any = None
        chunks = generator(**arguments)
        try:
            async for chunk in chunks:
                if _is_status(chunk):
                    continue
                on_first_chunk()
                text = getattr(chunk, "chunk", chunk)  # dspy.streaming.StreamResponse
                if isinstance(text, str):
                    parts.append(text)
                else:
                    final = chunk
        finally:
            # Close it in this task, now: left to the garbage collector its clean-up would run after the call.
            await chunks.aclose()
        return "".join(parts) if final is None else final

    stream.__wrapped__ = generator
    return stream
