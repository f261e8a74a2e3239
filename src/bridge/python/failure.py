"""Says what kind of failure an exception is, from what it carries: no library is imported for it."""

import json
import math
import re
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
}
# A refusal of the key or of this one prompt.
FORBIDDEN = {"PermissionDeniedError"}
# What gateways write into a 403 for a prompt that moderation stopped.
MODERATED = re.compile(
    r"flagged_input|input (was|has been) flagged|requires moderation|content[ _](management )?(policy|filter)", re.I
)
# What may pass: a timeout, a conflict, a misdirected request, too early, no capacity (Groq), a client that a proxy took
# for gone.
PASSING = (408, 409, 421, 425, 498, 499)
# OpenAI's client refuses a reply that was filtered or cut off.
DOUBTFUL = {"ContentFilterFinishReasonError", "LengthFinishReasonError"}
# A module that read a reply could make nothing of it.
UNREADABLE = {"AdapterParseError", "EmptyPrediction"}
# The attribute on an exception that says what was wrong with the last reply, see `dspy_replies.py`.
FAULT = "_bridge_fault"
# OpenAI's codes.
EXHAUSTED = ("insufficient_quota", "billing_hard_limit_reached")
# What an error object may have as its code in place of a status.
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
# Of OpenAI, Anthropic, Amazon and Azure.
REQUEST_IDS = ("x-request-id", "request-id", "x-amzn-requestid", "x-ms-request-id")
LONGEST_ID = 200
# The weightiest first.
WEIGHTY = ("fatal", "forbidden", "throttled", "unavailable")
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
    """The kind, HTTP status, Retry-After in seconds.

    Kinds: `permanent`, `transient`, `doubtful`, `unavailable`, `throttled`, `forbidden`, `fatal`.

    And `timed out` or `cut off` where a request went out whose reply never came.

    Never raises, whatever the exception's own attributes do.
    """
    try:
        if not isinstance(exc, Exception):
            return "transient", None, None, None
        fault, exc = fault_of(exc), core(exc)
        own, *wrapped = (judged(one) for one in related(exc))
        # A wrapper knows less than what it wraps, where that is what a server said.
        told = [failure for failure in wrapped if failure[0] in WEIGHTY] if own[1] is None else []
        weightiest = min(told, key=lambda failure: WEIGHTY.index(failure[0])) if told else own
        kind, status, retry_after = own if own[0] in WEIGHTY else weightiest
        if kind == "throttled" and retry_after is None:
            retry_after = first(seconds_to_wait(one) for one in related(exc, held=True))
        if lost_reply(exc) or (fault and fault[0] == LOST):
            return "transient", None, None, "cut off"
        if fault:
            return "doubtful", status, None, None
        if codeless(exc):
            return "transient", None, None, None
        if kind == "unavailable" and any(classes(one) & NOT_SENT for one in related(exc, held=True)):
            status = None  # LiteLLM's own: nobody answered.
        lost = unanswered(exc)
        # Something took the request.
        there = lost == "timed out" and kind == "unavailable"
        return "transient" if there else kind, status, retry_after, lost
    except BaseException:
        return "transient", None, None, None


def core(exc: BaseException) -> BaseException:
    """What is left without those that only wrap it: groups of one, and the errors of libraries that retry."""
    for _ in range(8):
        inner = wrapped_by(exc)
        if inner is None:
            break
        exc = inner
    return exc


def wrapped_by(exc: BaseException) -> BaseException | None:
    if isinstance(exc, BaseExceptionGroup):
        return exc.exceptions[0] if len(exc.exceptions) == 1 else None
    if type(exc).__name__ != "RetryError":
        return None
    try:  # tenacity's; its future is done.
        inner = exc.last_attempt.exception(0)
    except Exception:
        inner = None
    inner = inner or getattr(exc, "cause", None) or exc.__cause__
    return inner if isinstance(inner, Exception) else None


LOST = "lost_reply"


def fault_of(exc: BaseException) -> tuple[str, str] | None:
    """The class of a reply that its reader failed on (`refused`, `empty`, `cut_off`, `lost_reply`), and a text."""
    try:
        fault = getattr(exc, FAULT, None)
        inner = core(exc)
        readable = not classes(inner) & UNREADABLE and not unreadable_output(inner)
        return None if fault is None or readable or not isinstance(inner, Exception) else fault
    except BaseException:
        return None


def lost_reply(exc: Exception) -> bool:
    """Whether a reply was none: cut off, a page of HTML. LiteLLM calls that a 500, without a client's error."""
    if "LMProviderError" in classes(exc) and http_status(exc) is None:
        return isinstance(getattr(exc.__cause__, "__cause__", None), json.JSONDecodeError)
    parts = list(related(exc, held=True))
    homes = {type(part).__module__.partition(".")[0] for part in parts}
    named = [type(part).__name__ for part in parts if type(part).__module__.startswith("litellm")]
    return "InternalServerError" in named and homes <= {"dspy", "litellm", "json", "builtins"}


def codeless(exc: Exception) -> bool:
    """Whether LiteLLM found an error object without a code in a reply with status 200, and called that a 422."""
    told = (part for part in related(exc, held=True) if type(part) is Exception)
    return any(getattr(part, "status_code", None) == 422 for part in told)


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
    if quota_exhausted(exc, status):
        return "fatal"
    if status == 403 or (status is None and names & FORBIDDEN):
        return "permanent" if moderated(exc) else "forbidden"
    if status in (401, 402) or names & FATAL:
        return "fatal"
    asked_to_wait = retry_after is not None and status in (None, 503)
    if status == 429 or asked_to_wait or (status is None and names & THROTTLED):
        return "throttled"
    if status is not None and status < 500:
        return "transient" if status in PASSING else "permanent"
    if status is not None or names & UNAVAILABLE:
        return "unavailable"
    if names & DOUBTFUL:
        return "doubtful"
    if unreadable_output(exc):
        return "transient"
    return "permanent" if names & PERMANENT or isinstance(exc, BUGS) else "transient"


def quota_exhausted(exc: Exception, status: int | None) -> bool:
    """OpenAI reports an exhausted quota as a 429 that no waiting mends; some gateways as a 403."""
    if any(getattr(exc, name, None) in EXHAUSTED for name in ("code", "type", "provider_code")):
        return True
    texts = (str(exc), response_text(exc)) if status in (403, 429) else ()
    return any(code in text for text in texts for code in EXHAUSTED)


def moderated(exc: Exception) -> bool:
    """Whether a 403 says that it is for the prompt."""
    codes = (str(getattr(exc, name, "")) for name in ("code", "type", "provider_code"))
    return any(MODERATED.search(text) for text in (*codes, str(exc), response_text(exc)))


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
    # The last is that of an error object in a reply with status 200.
    places = ((exc, "status"), (exc, "status_code"), (response, "status_code"), (exc, "code"), (exc, "provider_code"))
    for holder, name in places:
        value = getattr(holder, name, None)
        if isinstance(value, str):
            value = int(value) if value.isdecimal() else WORDS.get(value)
        if isinstance(value, int) and 400 <= value <= 599:
            return int(value)
    return None


def seconds_to_wait(exc: Exception) -> float | None:
    told = first(as_seconds(value) for value in retry_hints(exc))
    return told if told is not None else until_reset(exc)


def first(values: Iterator[float | None]) -> float | None:
    return next((value for value in values if value is not None), None)


def retry_hints(exc: Exception) -> Iterator[Any]:
    yield getattr(exc, "retry_after", None)
    for headers in headers_of(exc):
        milliseconds = as_seconds(header(headers, "retry-after-ms"))
        yield None if milliseconds is None else milliseconds / 1000
        yield header(headers, "retry-after")


def headers_of(exc: Any) -> Iterator[Any]:
    # DSPy's own engine keeps those that tell of rates; the last are LiteLLM's, of a response.
    holders = (exc, "rate_limit_headers"), (exc, "headers"), (getattr(exc, "response", None), "headers")
    for holder, name in (*holders, (exc, "_response_headers")):
        headers = getattr(holder, name, None)
        if hasattr(headers, "get"):
            yield headers


def header(headers: Any, name: str) -> Any:
    """Its value, or the first of several; not every mapping of headers ignores their case."""
    value = headers.get(name) or headers.get(name.title())
    return value[0] if isinstance(value, (list, tuple)) and value else value


def request_id(told: object) -> str | None:
    """The server's own name of the request that an exception, or a response, tells of. Never raises."""
    try:
        parts = related(told, held=True) if isinstance(told, Exception) else iter((told,))
        return next((name[:LONGEST_ID] for part in parts for name in request_ids(part) if isinstance(name, str)), None)
    except BaseException:
        return None


def request_ids(part: Any) -> Iterator[Any]:
    yield getattr(part, "request_id", None)
    yield getattr(part, "_request_id", None)
    for headers in headers_of(part):
        for name in REQUEST_IDS:
            yield header(headers, name)


def until_reset(exc: Exception) -> float | None:
    """How long until a limit is lifted that a 429 tells of: of the one that is used up, or of that lifted first."""
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
# OpenAI's `1s`, `6m0s`, `20ms`, as Go writes them.
SPAN = re.compile(r"(\d+(?:\.\d+)?)(ms|us|µs|ns|d|h|m|s)")
UNITS = {"d": 86_400.0, "h": 3_600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "ns": 1e-9}


def as_time_left(value: Any) -> float | None:
    """Seconds, a span of Go's form, a moment since the epoch in seconds or milliseconds, or a date of either form."""
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
