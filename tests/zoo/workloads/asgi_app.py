"""An ASGI application that keeps a block for each request."""

kept = []


def keep():
    """Keep a block."""
    kept.append(bytearray(200_000))
    kept[-1][::4096] = b"x" * len(kept[-1][::4096])
    return b"kept"


async def app(scope, receive, send):
    """Answer one request."""
    if scope["type"] != "http":
        return
    body = keep() if scope["path"] == "/keep" else b"hello"
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": body})
