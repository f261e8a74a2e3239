"""Reads what a server said of a failed request, from the exception that its client raised: status, waits, id, body.

No library is imported for it: clients are known by the names of their attributes.
"""

import math
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

# What an error object may have as its code, in place of a status.
WORDS = {
    "rate_limit_exceeded": 429,
    "rate_limit_error": 429,
    "too_many_requests": 429,
    "invalid_api_key": 401,
    "authentication_error": 401,
    "insufficient_quota": 402,
    "context_length_exceeded": 400,
    "model_not_found": 404,
}
# The headers of OpenAI, Anthropic, Amazon and Azure.
REQUEST_IDS = ("x-request-id", "request-id", "x-amzn-requestid", "x-ms-request-id")
LONGEST_ID = 200


def related(exc: object, held: bool = False, depth: int = 8) -> Iterator[Exception]:
    """The exception, what it was raised from, and the members of a group; with `held` also the exceptions it holds.

    `depth` bounds how far it goes.
    """
    if not isinstance(exc, Exception) or depth == 0:
        return
    yield exc
    members = exc.exceptions if isinstance(exc, BaseExceptionGroup) else ()
    # LiteLLM raises its own exception while it handles a client's.
    within = (*exc.args, exc.__context__ if type(exc).__module__.startswith("litellm") else None) if held else ()
    for inner in (exc.__cause__, *members, *within):
        yield from related(inner, held, depth - 1)


def response_text(exc: Exception) -> str:
    """The body of httpx's or requests' response, as far as it was read."""
    try:
        text = getattr(getattr(exc, "response", None), "text", "")
    except Exception:
        return ""
    return text if isinstance(text, str) else ""


def http_status(exc: Exception) -> int | None:
    """The status of the reply, if the exception or its response has one from 400 to 599."""
    response = getattr(exc, "response", None)
    # The code of an error object in a reply with status 200 comes last.
    places = ((exc, "status"), (exc, "status_code"), (response, "status_code"), (exc, "code"), (exc, "provider_code"))
    for holder, name in places:
        value = getattr(holder, name, None)
        if isinstance(value, str):
            value = int(value) if value.isdecimal() else WORDS.get(value)
        if isinstance(value, int) and 400 <= value <= 599:
            return int(value)
    return None


def seconds_to_wait(exc: Exception) -> float | None:
    """How long the server asked to wait, by a Retry-After or by headers that tell when a limit is lifted."""
    told = first(as_seconds(value) for value in retry_hints(exc))
    return told if told is not None else until_reset(exc)


def first(values: Iterator[float | None]) -> float | None:
    """The first value that is not None."""
    return next((value for value in values if value is not None), None)


def retry_hints(exc: Exception) -> Iterator[Any]:
    """Every Retry-After that the exception carries, as it is written."""
    yield getattr(exc, "retry_after", None)
    for headers in headers_of(exc):
        milliseconds = as_seconds(header(headers, "retry-after-ms"))
        yield None if milliseconds is None else milliseconds / 1000
        yield header(headers, "retry-after")


def headers_of(exc: Any) -> Iterator[Any]:
    """The headers that an exception, or a response, keeps."""
    # DSPy's own engine keeps only the headers about rates; `_response_headers` is LiteLLM's.
    holders = (exc, "rate_limit_headers"), (exc, "headers"), (getattr(exc, "response", None), "headers")
    for holder, name in (*holders, (exc, "_response_headers")):
        headers = getattr(holder, name, None)
        if hasattr(headers, "get"):
            yield headers


def header(headers: Any, name: str) -> Any:
    """The value of a header, or the first of several. Not every mapping of headers ignores case."""
    value = headers.get(name) or headers.get(name.title())
    return value[0] if isinstance(value, (list, tuple)) and value else value


def request_id(told: object) -> str | None:
    """The server's own name of the request that an exception or a response is about. Never raises."""
    try:
        parts = related(told, held=True) if isinstance(told, Exception) else iter((told,))
        return next((name[:LONGEST_ID] for part in parts for name in request_ids(part) if isinstance(name, str)), None)
    except BaseException:
        return None


def request_ids(part: Any) -> Iterator[Any]:
    """Whatever may be a request id, in one exception or response."""
    yield getattr(part, "request_id", None)
    yield getattr(part, "_request_id", None)
    for headers in headers_of(part):
        for name in REQUEST_IDS:
            yield header(headers, name)


def until_reset(exc: Exception) -> float | None:
    """How long until a limit is lifted, by the headers of a 429: the limit that is used up, else the first one."""
    if http_status(exc) not in (None, 429):
        return None
    used_up, others = [], []
    for headers in headers_of(exc):
        for reset, remaining in RESETS:
            seconds = as_time_left(header(headers, reset))
            if seconds is not None:
                (used_up if str(header(headers, remaining)) in ("0", "0.0") else others).append(seconds)
    return max(used_up) if used_up else min(others, default=None)


RESETS = (
    *((f"x-ratelimit-reset-{unit}", f"x-ratelimit-remaining-{unit}") for unit in ("requests", "tokens")),
    *(
        (f"anthropic-ratelimit-{unit}-reset", f"anthropic-ratelimit-{unit}-remaining")
        for unit in ("requests", "tokens", "input-tokens", "output-tokens")
    ),
    ("x-ratelimit-reset", "x-ratelimit-remaining"),
    ("ratelimit-reset", "ratelimit-remaining"),
)
# OpenAI writes spans as Go does: `1s`, `6m0s`, `20ms`.
SPAN = re.compile(r"(\d+(?:\.\d+)?)(ms|us|µs|ns|d|h|m|s)")
UNITS = {"d": 86_400.0, "h": 3_600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "ns": 1e-9}


def as_time_left(value: Any) -> float | None:
    """Seconds from now, of a number of seconds, a span as Go writes it, a Unix time in seconds or ms, or a date."""
    if isinstance(value, str):
        text = value.strip()
        if text and not SPAN.sub("", text):
            return sum(float(number) * UNITS[unit] for number, unit in SPAN.findall(text))
        try:
            moment = datetime.fromisoformat(text) if "-" in text else None
        except ValueError:
            moment = None
        if moment is not None:
            return max(0.0, (moment.replace(tzinfo=moment.tzinfo or UTC) - datetime.now(UTC)).total_seconds())
    seconds = as_seconds(value)
    if seconds is None or seconds < 1e9:
        return seconds
    return max(0.0, (seconds / 1000 if seconds > 1e11 else seconds) - datetime.now(UTC).timestamp())


def as_seconds(value: Any) -> float | None:
    """Seconds from now, of a number of seconds or an HTTP date (RFC 9110, section 10.2.3)."""
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
