"""Building blocks of HTML pages: elements, sections, switches, the page frame."""

from __future__ import annotations

import html
from typing import TYPE_CHECKING

from mematlas.present.html import bundle
from mematlas.present.printable import clean
from mematlas.units import format_bytes

if TYPE_CHECKING:
    from collections.abc import Iterable


_ICON = (
    "data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 16 16'%3E"
    "%3Cpath fill='%230b7a75' d='M1 2h14v3H1zM1 6.5h9v3H1zM1 11h5v3H1z'/%3E%3C/svg%3E"
)


def page(title: str, body: str, payload: str, kind: str, code: bundle.PageCode) -> str:
    """Return a whole page. `payload`, of media type `kind`, must not contain "</script"."""
    return _PAGE.format(
        policy=bundle.policy(code),
        icon=_ICON,
        title=safe(title),
        style=bundle.style(code),
        body=body,
        kind=kind,
        payload=payload,
        script=bundle.script(code),
    )


def json_payload(text: str) -> str:
    """Escape JSON so that it cannot end its script element."""
    return text.replace("<", "\\u003c")


def safe(text: object) -> str:
    """Escape text for an element or attribute."""
    return html.escape(clean(str(text)), quote=True)


def tag(name: str, inner: str, **attributes: object) -> str:
    """Return an element. `inner` is HTML; attribute values are escaped."""
    phrase = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{safe(value)}"' for key, value in attributes.items()
    )
    return f"<{name}{phrase}>{inner}</{name}>"


def brand(name: str = "mematlas") -> str:
    """Return the header of each page, with the theme button."""
    return (
        f'<div class="brand"><span class="mark" aria-hidden="true"></span>{name}'
        '<button id="theme" type="button" class="quiet" hidden>dark</button></div>'
    )


def contents() -> str:
    """Return the place of the table of contents, which a script fills."""
    return '<nav id="contents" aria-label="Sections" hidden></nav>'


def sized(size: int) -> str:
    """Format bytes with the exact number as tooltip."""
    return f'<span class="bytes" title="{size:,} bytes">{format_bytes(size)}</span>'


def section(name: str, title: str, about: str, inner: str) -> str:
    """Return a section with its title. `inner` is HTML."""
    aside = tag("span", safe(about), class_="about") if about else ""
    return (
        f'<section id="{name}" aria-labelledby="{name}-title">'
        f'<h2 id="{name}-title">{title}{aside}</h2>{inner}</section>'
    )


def scrolling_table(kind: str, heads: Iterable[str], rows: str) -> str:
    """Return a table of a class that scrolls sideways if it is too wide. Heads and rows are HTML."""
    head = "".join(f'<th scope="col">{each}</th>' for each in heads)
    return (
        f'<div class="scroll"><table class="{kind}"><thead><tr>{head}</tr></thead>'
        f"<tbody>{rows}</tbody></table></div>"
    )


def switch(name: str, label: str, choices: Iterable[tuple[str, str]]) -> str:
    """Return a row of buttons; the first one is pressed."""
    buttons = "".join(
        f'<button type="button" data-value="{value}" aria-pressed="{str(not number).lower()}">'
        f"{title}</button>"
        for number, (value, title) in enumerate(choices)
    )
    return f'<div class="switch" id="{name}" role="group" aria-label="{label}">{buttons}</div>'


def flame_section(about: str, tools: str, keys: str) -> str:
    """Return the flame graph section, with more tools and the legend of its colours."""
    return section("flame", "Stacks", about, _FLAME.format(tools=tools, keys=keys))


_FLAME = (
    '<div class="tools"><div class="switch" id="metric" role="group" aria-label="Metric"></div>'
    "{tools}"
    '<div class="switch" id="direction" role="group" aria-label="Direction">'
    '<button type="button" data-value="down" aria-pressed="true">from main</button>'
    '<button type="button" data-value="up" aria-pressed="false">by owner</button></div>'
    '<div class="switch" id="depth" role="group" aria-label="Frames">'
    '<button type="button" data-value="code" aria-pressed="true">code</button>'
    '<button type="button" data-value="imports" aria-pressed="false">imports folded</button>'
    '<button type="button" data-value="packages" aria-pressed="false">packages</button>'
    '<button type="button" data-value="all" aria-pressed="false">every frame</button></div>'
    '<div class="find"><input id="search" type="search" placeholder="Search, or regular expression (/)"'
    ' aria-label="Search stacks by text or regular expression" autocomplete="off" spellcheck="false">'
    '<span id="steps" hidden><button type="button" id="hit-previous" class="step" '
    'aria-label="Previous hit">&lsaquo;</button><span id="hit"></span>'
    '<button type="button" id="hit-next" class="step" aria-label="Next hit">&rsaquo;</button></span>'
    '<output id="matched"></output></div></div>'
    '<p id="metric-missing" class="soft"></p>'
    '<details id="hits" class="more" hidden><summary></summary><ol></ol></details>'
    '<nav id="crumbs" aria-label="Zoomed into"></nav>'
    '<div class="flame-scroll"><canvas id="flame-canvas" tabindex="0" role="application" '
    'aria-label="Flame graph; the table of lines has the same figures"></canvas></div>'
    '<div id="detail" class="detail" aria-live="polite"></div>'
    '<p class="soft keys">{keys} '
    '<span class="help">click: zoom, Esc: back, arrows: move, /: search, n: next hit, i: invert</span>'
    '<span class="touch-help">tap: details, tap again: zoom</span></p>'
)

_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta name="referrer" content="no-referrer">
<link rel="icon" href="{icon}">
<title>{title}</title>
<style>{style}</style>
</head>
<body>
<main>
{body}
</main>
<div id="tooltip" role="tooltip" hidden></div>
<noscript><p class="warning">Charts need JavaScript; tables do not.</p></noscript>
<script type="{kind}" id="payload">{payload}</script>
<script type="module">{script}</script>
</body>
</html>
"""
