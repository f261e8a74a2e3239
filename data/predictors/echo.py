"""The smallest predictor: an async function. `process questions.csv --predictor echo.py:predict`"""

import asyncio


async def predict(question: str) -> str:
    await asyncio.sleep(0.1)  # where a real one awaits its model
    return f"You asked: {question}"
