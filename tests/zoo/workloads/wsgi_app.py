"""A WSGI application that keeps a block for each request."""

kept = []


def keep():
    """Keep a block."""
    kept.append(bytearray(200_000))
    kept[-1][::4096] = b"x" * len(kept[-1][::4096])
    return b"kept"


def app(environ, start_response):
    """Answer one request."""
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [keep() if environ["PATH_INFO"] == "/keep" else b"hello"]
