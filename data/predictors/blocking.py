"""A plain function for a library without async: it runs on a thread pool as wide as the concurrency."""

import time


def predict(question: str) -> dict[str, object]:
    time.sleep(0.1)
    return {"answer": question.upper(), "words": len(question.split())}  # one column a key
