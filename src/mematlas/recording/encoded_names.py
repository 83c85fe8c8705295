"""Names of other languages inside the C identifiers that their compilers make of them."""

from __future__ import annotations

import re

_CYTHON = re.compile(r"__pyx_(?:(pw|pf)|f|fuse_\d+__pyx_(pw|pf|f))_(?=\d)(\w+)")
_NUMBER = re.compile(r"\d{1,4}", re.ASCII)
_EMACS = re.compile(r"F((?:[0-9a-f]{2})+)_(\w+)_\d+")


def decode(symbol: str) -> str | None:
    """Return the name that an identifier of Cython or of compiled Emacs Lisp stands for; None: it is neither."""
    if found := _CYTHON.fullmatch(symbol):
        return _decode_cython(found[3], numbered=bool(found[1]) or found[2] in {"pw", "pf"})
    if found := _EMACS.fullmatch(symbol):
        name = bytes.fromhex(found[1]).decode("latin-1")
        return name if re.sub(r"\W", "_", name, flags=re.ASCII) == found[2] else None
    return None


def _decode_cython(text: str, *, numbered: bool) -> str | None:
    """Return a dotted name. Modules and classes have their length in front; `numbered`: the function has a number."""
    parts = []
    while found := _NUMBER.match(text):
        name = text[found.end() : found.end() + int(found[0])]
        after = found.end() + len(name)
        rest = text[after + 1 :]
        is_length = len(name) == int(found[0]) and text[after : after + 1] == "_"
        # The number of a function may equal the length of its first word.
        if not is_length or not rest or (numbered and not rest[0].isdigit()):
            text = text[found.end() :]
            break
        parts.append(name)
        text = rest
    return ".".join([*parts, text]) if parts and text else None
