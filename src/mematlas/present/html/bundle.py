"""Bundles style sheets and ES modules into one page.

The modules are plain files that a browser or Node can import. In the page they share one script:
imports between them and the word `export` are removed, so top-level names must be unique (checked by
a test). The content security policy has the hashes of script and style: nothing else can run.

"""

from __future__ import annotations

import base64
import hashlib
import re
from functools import cache
from importlib.resources import files
from typing import NamedTuple


class PageCode(NamedTuple):
    """Modules in import order, and style sheets."""

    modules: tuple[str, ...]
    sheets: tuple[str, ...]


_CHARTS = (
    *("format.js", "data.js", "trie.js", "theme.js", "tooltip.js", "switch.js", "state.js"),
    *("editor.js", "contents.js"),
)
_STACKS = ("flame.js", "search.js", "detail.js", "explorer.js")

REPORT = PageCode(
    (
        *(*_CHARTS, "account.js", "timeline.js", "window.js", *_STACKS),
        *("lines.js", "holders.js", "main.js"),
    ),
    ("style.css",),
)
DIFF = PageCode(
    (*_CHARTS, "timeline.js", *_STACKS, "diff/main.js"), ("style.css", "diff/style.css")
)
BENCH = PageCode(
    ("theme.js", "tooltip.js", "bench/chart.js", "bench/main.js"), ("style.css", "bench/style.css")
)
PAGE_MAP = PageCode(
    ("format.js", "theme.js", "tooltip.js", "pages/cells.js", "pages/main.js"),
    ("style.css", "pages/style.css"),
)

_IMPORT = re.compile(r"^import .*?;\n", re.MULTILINE)
_EXPORT = re.compile(r"^export (?=(?:async )?(?:function|const|class))", re.MULTILINE)


@cache
def style(code: PageCode) -> str:
    """Return the style sheets as one text."""
    return "\n".join(map(_read, code.sheets))


@cache
def script(code: PageCode) -> str:
    """Return the modules as one script."""
    text = "\n".join(_EXPORT.sub("", _IMPORT.sub("", _read(name))) for name in code.modules)
    if "</script" in text.lower():
        raise ValueError("the scripts must not hold the tag that ends them")
    return text


def policy(code: PageCode) -> str:
    """Return the content security policy: this style, this script, no network."""
    return (
        f"default-src 'none'; script-src '{_hash(script(code))}'; "
        f"style-src '{_hash(style(code))}'; "
        "img-src data:; base-uri 'none'; form-action 'none'"
    )


def _read(name: str) -> str:
    return (files("mematlas.present.html") / "assets" / name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
