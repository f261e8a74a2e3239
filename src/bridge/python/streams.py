"""Makes one answer of the chunks that an async-generator predictor yields."""

import sys
from collections.abc import AsyncIterator, Callable
from typing import Any


def _is_status(chunk: Any) -> bool:
    """Whether a chunk only says what a streamified program is about to do."""
    messages = sys.modules.get("dspy.streaming.messages")
    return messages is not None and isinstance(chunk, messages.StatusMessage)


def joined(generator: Callable[..., AsyncIterator[Any]]) -> Callable[..., Any]:
    """Makes an async function of the generator. Text chunks are joined; a structured last chunk is the whole answer."""

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
            # Close the generator in this task, now. The garbage collector would run its clean-up after the call.
            await chunks.aclose()
        return "".join(parts) if final is None else final

    stream.__wrapped__ = generator
    return stream
