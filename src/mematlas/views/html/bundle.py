"""Puts the style sheet and the ES modules into the page.

The modules stay plain files that a browser or Node can import as they are. In the page they share
one script: imports among them and the word `export` go, so top-level names must be unique, which
a test checks. Their hashes go into the content security policy: no other script can run.
"""

from __future__ import annotations

import base64
import hashlib
import re
from functools import cache
from importlib.resources import files

MODULES = (
    "format.js",
    "data.js",
    "trie.js",
    "theme.js",
    "tooltip.js",
    "account.js",
    "timeline.js",
    "flame.js",
    "explorer.js",
    "lines.js",
    "main.js",
)
"""Of the report, in the order of their imports."""

BENCH_MODULES = ("theme.js", "tooltip.js", "bench/chart.js", "bench/main.js")
"""Of the page of `mematlas bench`."""

STYLES = ("style.css",)
BENCH_STYLES = ("style.css", "bench/style.css")

PAGES_MODULES = ("format.js", "theme.js", "tooltip.js", "pages/cells.js", "pages/main.js")
"""Of the map of `mematlas pages --html`."""
PAGES_STYLES = ("style.css", "pages/style.css")

_IMPORT = re.compile(r"^import .*?;\n", re.MULTILINE)
_EXPORT = re.compile(r"^export (?=(?:async )?(?:function|const|class))", re.MULTILINE)


@cache
def style(sheets: tuple[str, ...] = STYLES) -> str:
    """Return the style sheets as one."""
    return "\n".join(map(_read, sheets))


@cache
def script(modules: tuple[str, ...] = MODULES) -> str:
    """Return the modules as one."""
    text = "\n".join(_EXPORT.sub("", _IMPORT.sub("", _read(name))) for name in modules)
    if "</script" in text.lower():
        raise ValueError("the scripts must not hold the tag that ends them")
    return text


def policy(modules: tuple[str, ...] = MODULES, sheets: tuple[str, ...] = STYLES) -> str:
    """Return the content security policy: this style, this script, and nothing from anywhere."""
    return (
        f"default-src 'none'; script-src '{_hash(script(modules))}'; "
        f"style-src '{_hash(style(sheets))}'; "
        "img-src data:; base-uri 'none'; form-action 'none'"
    )


def _read(name: str) -> str:
    return (files("mematlas.views.html") / "assets" / name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
