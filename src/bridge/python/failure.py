"""Says what kind of failure an exception is, from what it carries: no library is imported for it."""

import json
import math
from collections.abc import Iterator
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

Failure = tuple[str, int | None, float | None, str | None]
Judged = tuple[str, int | None, float | None]

# DSPy's, OpenAI's and LiteLLM's classes, for when an exception carries no HTTP status.
FATAL = {
    "LMAuthError",
    "LMBillingError",
    "LMNotConfiguredError",
    "AuthenticationError",
    "PermissionDeniedError",
}
# OpenAI's codes.
EXHAUSTED = ("insufficient_quota", "billing_hard_limit_reached")
THROTTLED = {"LMRateLimitError", "RateLimitError"}
# Python's own, DSPy's, OpenAI's, httpx's and aiohttp's: refused, dropped, no such host.
UNAVAILABLE = {
    "ConnectionError",
    "gaierror",
    "URLError",
    "LMTransportError",
    "LMServerError",
    "APIConnectionError",
    "ServiceUnavailableError",
    "InternalServerError",
    "NetworkError",
    "ConnectTimeout",
    "RemoteProtocolError",
    "ClientConnectionError",
}
PERMANENT = {
    "LMConfigurationError",
    "LMInvalidRequestError",
    "LMUnsupportedFeatureError",
    "LMCollectionLimitError",
}
# A request went out and its reply never came: DSPy's, httpx's, aiohttp's, requests', urllib3's and Python's own; a
# server that answers has its status beside them.
TIMED_OUT = {"TimeoutError", "ReadTimeout", "ReadTimeoutError"}
# LiteLLM puts a status of its own beside OpenAI's.
TIMED_OUT_ANYHOW = {"APITimeoutError"}
CUT_OFF = {
    "ReadError",
    "ProtocolError",
    "RemoteProtocolError",
    "ServerDisconnectedError",
    "ClientOSError",
    "ClientPayloadError",
    "ChunkedEncodingError",
    "IncompleteRead",
    "RemoteDisconnected",
    "ConnectionResetError",
    "ConnectionAbortedError",
}
# It never did, or not whole. Some of these are kinds of those above, or are raised from them.
NOT_SENT = {
    "ConnectError",
    "ConnectTimeout",
    "ConnectTimeoutError",
    "ConnectionTimeoutError",
    "ClientConnectorError",
    "ConnectionRefusedError",
    "gaierror",
    "PoolTimeout",
    "WriteTimeout",
    "WriteError",
    "LocalProtocolError",
    "LockTimeoutError",
    "LMLockTimeoutError",
    "URLError",
}
# The weightiest first.
WEIGHTY = ("fatal", "throttled", "unavailable")
BUGS = (
    TypeError,
    NameError,
    AttributeError,
    ImportError,
    LookupError,
    NotImplementedError,
    AssertionError,
    ValueError,
)


def failure(exc: BaseException) -> Failure:
    """The kind (`permanent`, `transient`, `unavailable`, `throttled`, `fatal`), HTTP status, Retry-After in seconds.

    And `timed out` or `cut off` where a request went out whose reply never came.

    Never raises, whatever the exception's own attributes do.
    """
    try:
        if not isinstance(exc, Exception):
            return "transient", None, None, None
        own, *wrapped = (judged(one) for one in related(exc))
        # A wrapper knows less than what it wraps, where that is what a server said.
        told = [failure for failure in wrapped if failure[0] in WEIGHTY] if own[1] is None else []
        weightiest = min(told, key=lambda failure: WEIGHTY.index(failure[0])) if told else own
        kind, status, retry_after = own if own[0] in WEIGHTY else weightiest
        lost = unanswered(exc)
        # Something took the request.
        there = lost == "timed out" and kind == "unavailable"
        return "transient" if there else kind, status, retry_after, lost
    except BaseException:
        return "transient", None, None, None


def related(exc: object, held: bool = False, depth: int = 8) -> Iterator[Exception]:
    """The exception, what it was raised from, the members of a group; and, if asked for, what it holds as arguments."""
    if not isinstance(exc, Exception) or depth == 0:
        return
    yield exc
    members = exc.exceptions if isinstance(exc, BaseExceptionGroup) else ()
    # LiteLLM raises its own in place of a client's.
    within = (*exc.args, exc.__context__ if type(exc).__module__.startswith("litellm") else None) if held else ()
    for inner in (exc.__cause__, *members, *within):
        yield from related(inner, held, depth - 1)


def unanswered(exc: Exception) -> str | None:
    """How a request stayed without its reply. What requests and urllib3 wrap, they hold as an argument."""
    named = [(classes(part), http_status(part)) for part in related(exc, held=True)]
    if any(names & NOT_SENT for names, _ in named):
        return None
    if any(names & TIMED_OUT_ANYHOW or (names & TIMED_OUT and status is None) for names, status in named):
        return "timed out"
    return "cut off" if any(names & CUT_OFF and status is None for names, status in named) else None


def classes(exc: Exception) -> set[str]:
    return {cls.__name__ for cls in type(exc).__mro__}


def judged(exc: Exception) -> Judged:
    status, retry_after = http_status(exc), seconds_to_wait(exc)
    return kind(exc, status, retry_after), status, retry_after


def kind(exc: Exception, status: int | None, retry_after: float | None) -> str:
    names = classes(exc)
    if status in (401, 402, 403) or names & FATAL or quota_exhausted(exc, status):
        return "fatal"
    asked_to_wait = retry_after is not None and status in (None, 503)
    if status == 429 or asked_to_wait or (status is None and names & THROTTLED):
        return "throttled"
    if status is not None and status < 500:
        return "transient" if status in (408, 409) else "permanent"
    if status is not None or names & UNAVAILABLE:
        return "unavailable"
    if unreadable_output(exc):
        return "transient"
    return "permanent" if names & PERMANENT or isinstance(exc, BUGS) else "transient"


def quota_exhausted(exc: Exception, status: int | None) -> bool:
    """OpenAI reports an exhausted quota as a 429 that no waiting mends."""
    if any(getattr(exc, name, None) in EXHAUSTED for name in ("code", "type", "provider_code")):
        return True
    texts = (str(exc), response_text(exc)) if status == 429 else ()
    return any(code in text for text in texts for code in EXHAUSTED)


def response_text(exc: Exception) -> str:
    """The body of httpx's or requests' response, as far as it was read."""
    try:
        text = getattr(getattr(exc, "response", None), "text", "")
    except Exception:
        return ""
    return text if isinstance(text, str) else ""


def unreadable_output(exc: Exception) -> bool:
    """JSON that does not parse and fields that do not validate: a model may do better next time."""
    return isinstance(exc, json.JSONDecodeError) or any(
        cls.__name__ == "ValidationError" and cls.__module__.startswith("pydantic") for cls in type(exc).__mro__
    )


def http_status(exc: Exception) -> int | None:
    response = getattr(exc, "response", None)
    for holder, name in ((exc, "status"), (exc, "status_code"), (response, "status_code"), (exc, "code")):
        value = getattr(holder, name, None)
        if isinstance(value, str) and value.isdecimal():
            value = int(value)
        if isinstance(value, int) and 400 <= value <= 599:
            return int(value)
    return None


def seconds_to_wait(exc: Exception) -> float | None:
    return next((seconds for value in retry_hints(exc) if (seconds := as_seconds(value)) is not None), None)


def retry_hints(exc: Exception) -> Iterator[Any]:
    yield getattr(exc, "retry_after", None)
    for holder in (exc, getattr(exc, "response", None)):
        headers = getattr(holder, "headers", None)
        if hasattr(headers, "get"):
            milliseconds = as_seconds(headers.get("retry-after-ms"))
            yield None if milliseconds is None else milliseconds / 1000
            yield headers.get("retry-after")
            yield headers.get("Retry-After")


def as_seconds(value: Any) -> float | None:
    """Seconds, or an HTTP date (RFC 9110, section 10.2.3)."""
    if value is None or isinstance(value, bool):
        return None
    try:
        seconds = float(value)
    except (TypeError, ValueError):
        try:
            seconds = (parsedate_to_datetime(value) - datetime.now(UTC)).total_seconds()
        except (TypeError, ValueError):
            return None
    return max(0.0, seconds) if math.isfinite(seconds) else None
