"""Checks what every client takes from the environment: keys that no request can carry, proxies where nothing listens.

Makes no request.
"""

import os
import socket
from urllib.parse import urlsplit

from _tokio_asyncio_bridge import touched
from _tokio_asyncio_bridge.loader import LoadError

# A distant proxy takes its time; where none listens, the connection is refused at once.
_PATIENCE_S = 0.5
_NAMES = {"\r": "a carriage return (`\\r`)", "\n": "a newline (`\\n`)", "\t": "a tab", " ": "a space"}
_CURLY = "\u2018\u2019\u201c\u201d"


def require_key(name: str, key: object) -> None:
    """Raises LoadError if the key that `name` holds cannot be sent as it is. The key itself is never shown."""
    fault = key_fault(key) if isinstance(key, str) else None
    if fault is not None:
        raise LoadError(_of_key(name, fault))


def _of_key(name: str, fault: str) -> str:
    return f"`{name}` holds {fault}, which no key has\nhint: set it anew; copied text and `.env` files bring such"


def key_fault(key: str) -> str | None:
    """What a key holds that no key has; None if it can be sent."""
    for character in key:
        if character in _CURLY:
            return f"a curly quote (`{character}`)"
        if not (character == " " or "!" <= character <= "~"):
            return _NAMES.get(character, f"the character U+{ord(character):04X}")
    if key != key.strip():
        return "a space at one end"
    if key[:1] in ("'", '"') or key[-1:] in ("'", '"'):
        return "a quotation mark at one end"
    return None


def require_proxy(url: str) -> None:
    """Raises LoadError if requests to the URL would go through a proxy that cannot be reached."""
    target, proxies = urlsplit(url), _proxies()
    kind = next((kind for kind in (target.scheme, "all") if proxies.get(kind)), None)
    if kind is not None and not _is_bypassed(target.hostname or ""):
        fault = proxy_fault(kind, proxies[kind])
        if fault is not None:
            raise LoadError(fault)


def _proxies() -> dict[str, str]:
    """The proxies in the environment, by `http`, `https`, `all` and the like."""
    if not any(name.lower().endswith("_proxy") for name in os.environ):
        return {}
    # Imported late: it takes as long as all of this package, and few have a proxy.
    from urllib.request import getproxies

    return getproxies()


def _is_bypassed(host: str) -> bool:
    from urllib.request import proxy_bypass

    try:
        return bool(proxy_bypass(host))
    except Exception:
        return False


def proxy_fault(kind: str, proxy: str) -> str | None:
    """What is wrong with the environment's proxy for `http`, `https` or `all`; None if it can be reached."""
    address = urlsplit(proxy if "://" in proxy else f"http://{proxy}")
    try:
        host, port = address.hostname or "", address.port or (443 if address.scheme == "https" else 80)
        socket.create_connection((host, port), _PATIENCE_S).close()
    except TimeoutError:
        return None
    except ValueError:
        return f"`{_variable(kind)}` is no proxy's address\nhint: unset it, or write it as `http://HOST:PORT`"
    except OSError as error:
        reason = error.strerror or type(error).__name__
        return (
            f"`{_variable(kind)}` names a proxy at {host}:{port} that cannot be reached: {reason}"
            "\nhint: start it, unset the variable, or name the server in `no_proxy`"
        )
    return None


def _variable(kind: str) -> str:
    names = (f"{kind}_proxy", f"{kind}_PROXY".upper())
    return next((name for name in names if os.environ.get(name)), names[0])


def cautions() -> list[str]:
    """The faults of all keys and proxies in the environment, for a predictor whose use of them is unknown."""
    keys = [(name, key_fault(key)) for name, key in os.environ.items() if name.upper().endswith("_API_KEY")]
    proxies = [proxy_fault(kind, proxy) for kind, proxy in _proxies().items() if kind in ("http", "https", "all")]
    return [_of_key(name, fault) for name, fault in keys if fault] + [fault for fault in proxies if fault]


def bypass(host: str) -> None:
    """Makes requests to a server of ours bypass every proxy."""
    known = os.environ.get("no_proxy") or os.environ.get("NO_PROXY") or ""
    if known != "*" and host not in known.split(","):
        touched.variable("no_proxy", f"{known},{host}" if known else host)
