"""Answers the rows that an earlier run left over, and keeps what that run paid for."""

import asyncio
from pathlib import Path

import tokio_asyncio_bridge as tab

QUESTIONS = Path(__file__).parents[2] / "data/questions.csv"
server_is_up = False


async def answer(question: str) -> str:
    await asyncio.sleep(0.05)
    if "capital" in question and not server_is_up:
        raise ConnectionError("the server is down")
    return f"You asked: {question}"


report = tab.process(QUESTIONS, "answers.csv", predictor=answer, concurrency=8, retries=0)
print(f"{report.rows.ok} rows answered, {report.rows.failed} failed: {report.rows.failed_by_class}")

server_is_up = True
report = tab.resume("answers.csv", predictor=answer)
print(f"{report.rows.ok} rows answered with {report.attempts.total} calls")
