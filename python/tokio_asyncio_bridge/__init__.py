"""Answers files of questions with an async Python program, through a Tokio <-> asyncio bridge."""
