"""Which failures are permanent, transient, unavailable, throttled or fatal. `make test` runs this."""

import asyncio
import json
import os
import socket
import socketserver
import sys
import threading
import unittest
import urllib.request
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")

import aiohttp
import dspy
import httpx
import openai
import requests
import tenacity

# The files form a package, which the program makes of what it holds.
package = ModuleType("_tokio_asyncio_bridge")
package.__path__ = [str(Path(__file__).parents[2] / "src/bridge/python")]
sys.modules[package.__name__] = package

from _tokio_asyncio_bridge.failure import core, failure  # noqa: E402
from _tokio_asyncio_bridge.reply import request_id  # noqa: E402
from _tokio_asyncio_bridge.traces import reasons  # noqa: E402


class ApiError(Exception):
    def __init__(self, message: str = "", **attributes: Any) -> None:
        super().__init__(message)
        self.__dict__.update(attributes)


def over_http(status: int, **headers: str) -> ApiError:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return ApiError(response=SimpleNamespace(status_code=status, headers=named))


CUT = b'HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{"a":'


def server(reply: bytes | None) -> str:
    """The URL of a server that takes every request, answers so, and hangs up; None: once the client has."""

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            self.request.recv(65536)
            if reply is not None:
                self.request.sendall(reply)
            while reply is None and self.request.recv(65536):
                pass

    listening = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler)
    listening.daemon_threads = True
    threading.Thread(target=listening.serve_forever, daemon=True).start()
    return f"http://127.0.0.1:{listening.server_address[1]}"


def nobody() -> str:
    """A URL where nobody listens; the socket keeps its port."""
    sock = socket.socket()
    sock.bind(("127.0.0.1", 0))
    unused.append(sock)
    return f"http://127.0.0.1:{sock.getsockname()[1]}"


unused: list[socket.socket] = []


async def by_httpx(url: str) -> None:
    async with httpx.AsyncClient(timeout=0.3) as client:
        await client.post(url, json={})


async def by_openai(url: str) -> None:
    async with openai.AsyncOpenAI(base_url=url, api_key="none", timeout=0.3, max_retries=0) as client:
        await client.chat.completions.create(model="m", messages=[{"role": "user", "content": "?"}])


async def by_aiohttp(url: str) -> None:
    timeout = aiohttp.ClientTimeout(sock_read=0.3)
    async with aiohttp.ClientSession(timeout=timeout) as client, client.post(url, json={}) as response:
        await response.read()


async def by_requests(url: str) -> None:
    requests.post(url, json={}, timeout=0.3)


async def by_urllib(url: str) -> None:
    urllib.request.urlopen(url, data=b"{}", timeout=0.3).read()


async def by_dspy(url: str) -> None:
    await dspy.LM("openai/m", api_base=url, api_key="none", timeout=0.3, num_retries=0, cache=False).acall("?")


async def by_dspy_on_a_thread(url: str) -> None:
    dspy.LM("openai/m", api_base=url, api_key="none", timeout=0.3, num_retries=0, cache=False)("?")


async def by_litellm(url: str) -> None:
    kept = {"api_base": url, "api_key": "none", "num_retries": 0, "cache": False, "engine": "litellm"}
    await dspy.LM("openai/m", timeout=0.3, **kept).acall("?")


CLIENTS = (by_httpx, by_openai, by_aiohttp, by_requests, by_urllib, by_dspy, by_dspy_on_a_thread, by_litellm)


class Failure(unittest.TestCase):
    def kinds(self, expected: str, *exceptions: BaseException) -> None:
        for exc in exceptions:
            with self.subTest(exc=exc):
                self.assertEqual(failure(exc)[0], expected)

    def test_bugs_are_permanent(self) -> None:
        bugs = (TypeError(), NameError(), AttributeError(), ModuleNotFoundError(), KeyError(), ValueError())
        self.kinds("permanent", *bugs, NotImplementedError(), AssertionError(), UnicodeError())

    def test_a_wrapper_is_judged_by_what_a_server_said_within(self) -> None:
        refused = ApiError(status=401)
        try:
            raise ValueError("no answer") from refused
        except ValueError as wrapper:
            chained = wrapper
        group = ExceptionGroup("two", [ValueError(), ExceptionGroup("inner", [refused])])
        self.kinds("fatal", chained, group, ApiError(status="401"))
        self.kinds("throttled", ExceptionGroup("one", [over_http(429)]), ApiError(retry_after=2))
        self.kinds("permanent", ExceptionGroup("bugs", [ValueError()]).exceptions[0])

    def test_what_may_pass_is_transient(self) -> None:
        self.kinds("transient", TimeoutError(), RuntimeError(), Exception(), SystemExit(403))

    def test_a_server_that_is_not_there_is_unavailable(self) -> None:
        self.kinds("unavailable", ConnectionResetError(), over_http(500), over_http(503), ApiError(status=502))

    def test_unreadable_model_output_is_transient_although_a_value_error(self) -> None:
        invalid = type("ValidationError", (ValueError,), {"__module__": "pydantic_core._pydantic_core"})
        self.kinds("transient", json.JSONDecodeError("no", "{", 1), invalid())

    def test_a_validation_error_of_another_library_is_a_value_error(self) -> None:
        self.kinds("permanent", type("ValidationError", (ValueError,), {})())

    def test_the_http_status_decides_wherever_it_stands(self) -> None:
        self.kinds("permanent", ApiError(status=400), ApiError(status_code=404), over_http(422))
        self.kinds("transient", ApiError(status=408), ApiError(code=409))
        self.kinds("throttled", ApiError(status=429), over_http(503, retry_after="1"))
        self.kinds("fatal", ApiError(status=401), ApiError(status=402))
        self.kinds("forbidden", over_http(403))

    def test_what_a_proxy_or_a_busy_server_says_may_pass(self) -> None:
        self.kinds("transient", *(ApiError(status=status) for status in (408, 409, 421, 425, 498, 499)))

    def test_a_403_for_the_prompt_is_permanent(self) -> None:
        metadata = {"error": {"code": 403, "metadata": {"flagged_input": "..."}}}
        self.kinds("permanent", ApiError(f"Error code: 403 - {metadata}", status_code=403))
        self.kinds("permanent", ApiError("no", status_code=403, code="content_policy_violation"))
        self.kinds("forbidden", type("PermissionDeniedError", (Exception,), {})(), ApiError("no", status=403))

    def test_a_403_for_a_spent_quota_is_fatal(self) -> None:
        self.kinds("fatal", ApiError("no", status_code=403, code="insufficient_quota"))
        self.kinds("fatal", ApiError("Error code: 403 - {'error': {'code': 'insufficient_quota'}}", status_code=403))

    def test_the_code_of_an_error_object_is_a_status(self) -> None:
        self.kinds("throttled", ApiError(provider_code="429"))
        self.kinds("fatal", ApiError(provider_code="401"), ApiError(provider_code="insufficient_quota"))
        self.kinds("throttled", ApiError(status_code="rate_limit_exceeded"))
        self.kinds("fatal", ApiError(provider_code="invalid_api_key"), ApiError(status_code="insufficient_quota"))
        self.kinds("permanent", ApiError(provider_code="context_length_exceeded"))

    def test_the_status_beats_the_class(self) -> None:
        self.kinds("unavailable", type("Unavailable", (ApiError, ValueError), {})("", status=503))

    def test_a_status_that_is_none_is_passed_over(self) -> None:
        self.kinds("transient", ApiError(status="failed"), ApiError(status=200), ApiError(code=True))

    def test_an_exhausted_quota_is_fatal_although_a_429(self) -> None:
        self.kinds("fatal", ApiError(status=429, code="insufficient_quota"))
        self.kinds("fatal", ApiError("Error: {'type': 'insufficient_quota'}", status_code=429))

    def test_a_missing_key_is_fatal_without_a_status(self) -> None:
        self.kinds("fatal", type("LMNotConfiguredError", (Exception,), {})())

    def test_a_request_that_went_out_stays_unanswered_however_the_client_says_it(self) -> None:
        urls = {"hangs": server(None), "drops": server(b""), "cuts": server(CUT), "refuses": nobody()}
        for client in CLIENTS:
            for does, url in urls.items():
                with self.subTest(client=client.__name__, server=does), self.assertRaises(Exception) as raised:
                    asyncio.run(client(url))
                kind, _, _, lost = failure(raised.exception)
                expected = {"hangs": "timed out", "refuses": None}.get(does, "cut off")
                self.assertEqual(lost, expected, repr(raised.exception))
                kinds = {"timed out": {"transient"}, None: {"unavailable"}}.get(lost, {"transient", "unavailable"})
                self.assertIn(kind, kinds, repr(raised.exception))

    def test_what_a_server_answered_is_not_unanswered(self) -> None:
        timeout = type("TimeoutError", (ApiError, TimeoutError), {})
        for exc in (over_http(504), timeout("", status=504), ConnectionRefusedError(), ValueError()):
            with self.subTest(exc=exc):
                self.assertIsNone(failure(exc)[3])

    def test_retry_after_is_seconds_or_a_date(self) -> None:
        self.assertEqual(failure(ApiError(status=429, retry_after=1.5)), ("throttled", 429, 1.5, None))
        self.assertEqual(failure(over_http(429, retry_after="7")), ("throttled", 429, 7.0, None))
        date = format_datetime(datetime.now(UTC) + timedelta(seconds=100), usegmt=True)
        seconds = failure(over_http(429, **{"Retry_After": date}))[2]
        self.assertTrue(seconds is not None and 90 < seconds <= 100, seconds)

    def test_a_limit_tells_when_it_is_lifted_where_no_retry_after_does(self) -> None:
        soon = datetime.now(UTC) + timedelta(seconds=50)
        told = {
            "1s": 1,
            "6m0s": 360,
            "20ms": 0.02,
            "1h2m3.5s": 3723.5,
            "7": 7,
            "0.5": 0.5,
            str(soon.timestamp()): 50,
            str(int(soon.timestamp() * 1000)): 50,
            soon.isoformat(): 50,
            soon.strftime("%Y-%m-%dT%H:%M:%SZ"): 50,
        }
        for value, seconds in told.items():
            with self.subTest(value=value):
                waits = failure(over_http(429, x_ratelimit_reset_requests=value))[2]
                self.assertIsNotNone(waits)
                self.assertAlmostEqual(waits or 0, seconds, delta=0.01 if seconds != 50 else 2)
        self.assertEqual(failure(over_http(429, retry_after="2", x_ratelimit_reset_requests="9s"))[2], 2)
        kept = SimpleNamespace(**{"status": 429, "rate_limit_headers": {"x-ratelimit-reset-tokens": ("3s",)}})
        self.assertEqual(failure(ApiError(**vars(kept)))[2], 3)
        for value in ("soon", "", "-", "12 apples"):
            self.assertIsNone(failure(over_http(429, x_ratelimit_reset_requests=value))[2])
        self.assertIsNone(failure(over_http(500, x_ratelimit_reset_requests="9s"))[2])

    def test_of_several_limits_the_one_used_up_counts(self) -> None:
        used_up = {"x_ratelimit_reset_requests": "6m0s", "x_ratelimit_remaining_requests": "99"}
        used_up |= {"x_ratelimit_reset_tokens": "2s", "x_ratelimit_remaining_tokens": "0"}
        self.assertEqual(failure(over_http(429, **used_up))[2], 2)

    def test_a_wrapper_alone_takes_what_it_wraps_for_itself(self) -> None:
        @tenacity.retry(stop=tenacity.stop_after_attempt(1))
        def gives_up() -> None:
            raise ApiError("no such model", status=404)

        with self.assertRaises(tenacity.RetryError) as raised:
            gives_up()
        self.assertEqual(failure(raised.exception), ("permanent", 404, None, None))
        self.assertEqual(type(core(raised.exception)), ApiError)
        nested = ExceptionGroup("a task", [ExceptionGroup("a task", [raised.exception])])
        self.assertEqual((failure(nested)[:2], type(core(nested))), (("permanent", 404), ApiError))
        two = ExceptionGroup("tasks", [ValueError(), ApiError()])
        self.assertIs(core(two), two)

    def test_the_reasons_of_causes_and_members_are_told_once(self) -> None:
        try:
            try:
                raise ConnectionError("line 7 is dead")
            except ConnectionError as error:
                raise RuntimeError("no answer") from error
        except RuntimeError as error:
            chained = error
        self.assertEqual(reasons(chained), "no answer; caused by ConnectionError: line 7 is dead")
        group = ExceptionGroup("tasks", [chained, KeyError("id"), ValueError("no answer")])
        expected = "RuntimeError: no answer; caused by ConnectionError: line 7 is dead; KeyError: 'id'"
        self.assertEqual(reasons(group), f"tasks (3 sub-exceptions); {expected}")
        repeated = RuntimeError("it said: line 7 is dead")
        repeated.__cause__ = ConnectionError("line 7 is dead")
        self.assertEqual(reasons(repeated), "it said: line 7 is dead")
        loop = RuntimeError("round")
        loop.__cause__ = loop
        self.assertEqual(reasons(loop), "round")

    def test_a_useless_retry_after_is_none(self) -> None:
        for value in ("soon", float("nan"), float("inf"), True, []):
            with self.subTest(value=value):
                self.assertIsNone(failure(ApiError(status=429, retry_after=value))[2])
        self.assertEqual(failure(ApiError(status=429, retry_after=-3))[2], 0.0)

    def test_an_exception_that_defends_itself_is_transient(self) -> None:
        class Hostile(Exception):
            def __getattribute__(self, name: str) -> Any:
                raise KeyboardInterrupt

            def __str__(self) -> str:
                raise SystemExit(1)

        self.assertEqual(failure(Hostile()), ("transient", None, None, None))


class RequestIds(unittest.TestCase):
    """The server's own name of a request, wherever a library keeps it."""

    def test_of_an_exception_or_of_what_it_wraps(self) -> None:
        self.assertEqual(request_id(ApiError(request_id="req_1")), "req_1")
        wrapper = RuntimeError("wrapped")
        wrapper.__cause__ = over_http(500, x_request_id="req_2")
        self.assertEqual(request_id(wrapper), "req_2")

    def test_of_openai_and_dspy(self) -> None:
        response = httpx.Response(
            429, headers={"X-Request-Id": "req_3"}, request=httpx.Request("POST", "http://127.0.0.1/")
        )
        self.assertEqual(request_id(openai.RateLimitError("slow down", response=response, body=None)), "req_3")
        self.assertEqual(request_id(httpx.HTTPStatusError("no", request=response.request, response=response)), "req_3")
        self.assertEqual(request_id(SimpleNamespace(_request_id="req_4")), "req_4")
        self.assertEqual(request_id(SimpleNamespace(_response_headers={"x-request-id": "req_5"})), "req_5")

    def test_of_what_tells_none(self) -> None:
        for told in (None, "text", ValueError("no"), ApiError(request_id=7), SimpleNamespace(headers=None)):
            self.assertIsNone(request_id(told))


if __name__ == "__main__":
    unittest.main()
