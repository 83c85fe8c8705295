"""Names of other languages inside the C identifiers that their compilers make of them."""

from __future__ import annotations

import re

_CYTHON = re.compile(r"__pyx_(?:pw|pf|f|fuse_\d+__pyx_\w\w?)_(?=\d)(\w+)")
_COUNTED = re.compile(r"\d+")
_EMACS = re.compile(r"F((?:[0-9a-f]{2})+)_(\w+)_\d+")


def decode(symbol: str) -> str | None:
    """Return the name that an identifier of Cython or of compiled Emacs Lisp stands for; None: it is neither."""
    if found := _CYTHON.fullmatch(symbol):
        return _decode_cython(found[1])
    if found := _EMACS.fullmatch(symbol):
        name = bytes.fromhex(found[1]).decode("latin-1")
        return name if re.sub(r"\W", "_", name, flags=re.ASCII) == found[2] else None
    return None


def _decode_cython(text: str) -> str | None:
    """Return a dotted name. Modules and classes have their length in front, methods their number."""
    parts = []
    while found := _COUNTED.match(text):
        name = text[found.end() : found.end() + int(found[0])]
        after = found.end() + len(name)
        if len(name) < int(found[0]) or text[after : after + 1] != "_":
            text = text[found.end() :]
            break
        parts.append(name)
        text = text[after + 1 :]
    return ".".join([*parts, text]) if parts and text else None
