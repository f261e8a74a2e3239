"""Tells what kind of failure an exception is, from its class and from what it carries. Imports no library for it."""

import json
import re

from _tokio_asyncio_bridge.reply import first, http_status, related, response_text, seconds_to_wait

# Kind, HTTP status, seconds to wait, and how a reply got lost.
Failure = tuple[str, int | None, float | None, str | None]
Judged = tuple[str, int | None, float | None]

# Classes of DSPy, OpenAI and LiteLLM, for exceptions that carry no HTTP status.
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
# Statuses that may pass: timeout, conflict, misdirected request, too early, no capacity (Groq), and that of a proxy
# which believed its client to be gone.
PASSING = (408, 409, 421, 425, 498, 499)
# OpenAI's client raises these for a reply that was filtered or cut off.
DOUBTFUL = {"ContentFilterFinishReasonError", "LengthFinishReasonError"}
# Raised by a module that could not read a reply.
UNREADABLE = {"AdapterParseError", "EmptyPrediction"}
# The attribute on an exception that says what was wrong with the last reply, see `dspy_replies.py`.
FAULT = "_bridge_fault"
# OpenAI's codes for an exhausted quota.
EXHAUSTED = ("insufficient_quota", "billing_hard_limit_reached")
THROTTLED = {"LMRateLimitError", "RateLimitError"}
# Connections refused or dropped, and unknown hosts: classes of Python, DSPy, OpenAI, httpx and aiohttp.
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
# A request went out and its reply never came: classes of DSPy, httpx, aiohttp, requests, urllib3 and Python. If the
# exception has a status, the server did answer.
TIMED_OUT = {"TimeoutError", "ReadTimeout", "ReadTimeoutError"}
# The same whatever the status, for LiteLLM gives OpenAI's class a status of its own.
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
# The request never went out, or not all of it. Some of these are subclasses of those above, or are raised from them.
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
# Kinds that a server's own word decides, the weightiest first.
WEIGHTY = ("fatal", "forbidden", "throttled", "unavailable")
# Exceptions that another attempt does not mend.
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
    """The kind of a failure, its HTTP status, its Retry-After in seconds, and how its reply got lost.

    The kinds are `permanent`, `transient`, `doubtful`, `unavailable`, `throttled`, `forbidden` and `fatal`. The last is
    `timed out` or `cut off` if a request went out and its reply never came.

    Never raises, whatever the exception's own attributes do.
    """
    try:
        if not isinstance(exc, Exception):
            return "transient", None, None, None
        fault, exc = fault_of(exc), core(exc)
        own, *wrapped = (judged(one) for one in related(exc))
        # A wrapper without a status knows less than a wrapped exception that carries what a server said.
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
            status = None  # Nobody answered: the status is LiteLLM's own.
        lost = unanswered(exc)
        # Something took the request, so the server is there.
        there = lost == "timed out" and kind == "unavailable"
        return "transient" if there else kind, status, retry_after, lost
    except BaseException:
        return "transient", None, None, None


def core(exc: BaseException) -> BaseException:
    """The exception without those that only wrap it: groups of one, and the errors of libraries that retry."""
    for _ in range(8):
        inner = wrapped_by(exc)
        if inner is None:
            break
        exc = inner
    return exc


def wrapped_by(exc: BaseException) -> BaseException | None:
    """The one exception that this one only wraps."""
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
    """What was wrong with the reply that its reader failed on, and a text about it.

    It is `refused`, `empty`, `cut_off` or `lost_reply`.
    """
    try:
        fault = getattr(exc, FAULT, None)
        inner = core(exc)
        readable = not classes(inner) & UNREADABLE and not unreadable_output(inner)
        return None if fault is None or readable or not isinstance(inner, Exception) else fault
    except BaseException:
        return None


def lost_reply(exc: Exception) -> bool:
    """Whether the reply was none at all: cut off, or a page of HTML. LiteLLM reports that as a 500 of its own."""
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


def unanswered(exc: Exception) -> str | None:
    """How a request stayed without its reply: `timed out`, `cut off`, or None.

    requests and urllib3 hold what they wrap as an argument of their exception.
    """
    named = [(classes(part), http_status(part)) for part in related(exc, held=True)]
    if any(names & NOT_SENT for names, _ in named):
        return None
    if any(names & TIMED_OUT_ANYHOW or (names & TIMED_OUT and status is None) for names, status in named):
        return "timed out"
    return "cut off" if any(names & CUT_OFF and status is None for names, status in named) else None


def classes(exc: BaseException) -> set[str]:
    """The names of an exception's class and of its bases."""
    return {cls.__name__ for cls in type(exc).__mro__}


def judged(exc: Exception) -> Judged:
    """Kind, status and seconds to wait of one exception, without those that it wraps."""
    status, retry_after = http_status(exc), seconds_to_wait(exc)
    return kind(exc, status, retry_after), status, retry_after


def kind(exc: Exception, status: int | None, retry_after: float | None) -> str:
    """The kind of one exception."""
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
    """Whether a quota is used up, which no waiting mends. OpenAI reports that as a 429, some gateways as a 403."""
    if any(getattr(exc, name, None) in EXHAUSTED for name in ("code", "type", "provider_code")):
        return True
    texts = (str(exc), response_text(exc)) if status in (403, 429) else ()
    return any(code in text for text in texts for code in EXHAUSTED)


def moderated(exc: Exception) -> bool:
    """Whether a 403 is a refusal of this one prompt."""
    codes = (str(getattr(exc, name, "")) for name in ("code", "type", "provider_code"))
    return any(MODERATED.search(text) for text in (*codes, str(exc), response_text(exc)))


def unreadable_output(exc: Exception) -> bool:
    """Whether JSON could not be parsed, or fields could not be validated: a model may do better next time."""
    return isinstance(exc, json.JSONDecodeError) or any(
        cls.__name__ == "ValidationError" and cls.__module__.startswith("pydantic") for cls in type(exc).__mro__
    )
