"""What is served and pushed of a recording while it grows."""

from __future__ import annotations

from typing import NamedTuple

TOKEN = "MEMATLAS_PUSH_TOKEN"  # noqa: S105 - the name of a variable
PUSH_S = 15.0


class Publication(NamedTuple):
    """Pages that are served, and profiles that are pushed. It holds no secrets: names of files alone."""

    path: str
    listen: str = ""  # "": no pages
    token_file: str = ""
    tls_cert: str = ""
    tls_key: str = ""
    push: tuple[str, ...] = ()
    push_s: float = PUSH_S
