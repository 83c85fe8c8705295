"""HTTP requests that push a profile."""

from __future__ import annotations

import base64
import http.client
import urllib.error
import urllib.request
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from mematlas._version import __version__
from mematlas.present.printable import clean, shorten
from mematlas.serve.pusher import PushError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mematlas.serve.destination import Destination

TIMEOUT_S = 10
_PASSING = frozenset({408, 429})  # 5xx beside them
LONGEST_REASON = 200  # letters of a collector's answer


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Follows no redirect: the token is for the named host alone."""

    def redirect_request(self, *_: Any) -> None:
        return None


def authorization(destination: Destination, token: str) -> dict[str, str]:
    """Return the header with the token, if there is one."""
    if not token:
        return {}
    if not destination.user:
        return {"Authorization": f"Bearer {token}"}
    words = base64.b64encode(f"{destination.user}:{token}".encode()).decode()
    return {"Authorization": f"Basic {words}"}


def post(url: str, body: bytes, headers: Mapping[str, str], *, is_local: bool) -> bytes:
    """Send a request and return the answer, to this machine without the proxy of the environment.

    Raises PushError with the collector's first line, or with what kept it from arriving.
    """
    request = urllib.request.Request(  # noqa: S310 - http or https, as Destination has it
        url, body, {**headers, "User-Agent": f"mematlas/{__version__}"}, method="POST"
    )
    proxies = (urllib.request.ProxyHandler({}),) if is_local else ()
    opener = urllib.request.build_opener(_NoRedirect, *proxies)
    try:
        with opener.open(request, timeout=TIMEOUT_S) as answer:
            return bytes(answer.read(1 << 16))
    except urllib.error.HTTPError as error:
        raise _refusal(error) from None
    except (OSError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", error)
        words = getattr(reason, "strerror", None) or reason or type(error).__name__
        raise PushError(shorten(clean(str(words)), LONGEST_REASON)) from None


def _refusal(error: urllib.error.HTTPError) -> PushError:
    said = b""
    with suppress(OSError, http.client.HTTPException):
        said = error.read(1 << 12)
    first = said.decode(errors="replace").strip().partition("\n")[0]
    passing = error.code in _PASSING or error.code >= 500
    text = f"status {error.code}" + (f": {shorten(clean(first), LONGEST_REASON)}" if first else "")
    asked = error.headers.get("Retry-After", "")
    return PushError(
        text, retry_s=float(asked[:9]) if asked.isdecimal() else 0.0, final=not passing
    )
