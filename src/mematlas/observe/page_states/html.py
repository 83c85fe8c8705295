"""`mematlas pages -o FILE.html`: the page map of a process as an HTML file."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from mematlas.present.html import bundle
from mematlas.present.html.markup import brand, json_payload, page, safe
from mematlas.present.printable import clean
from mematlas.units import format_bytes

if TYPE_CHECKING:
    from mematlas.observe.page_states.model import Layer, MapStrip, PageMap


def render_page_map(found: PageMap) -> str:
    """Return a self-contained HTML page: every page of the process as a cell, with layers and a legend."""
    notes = "".join(f"<li>{safe(text)}</li>" for text in _notes(found))
    body = _BODY.format(head=_head(found), layers=_layers(found), names=_names(found), notes=notes)
    return page(
        f"Pages of {found.pid} · mematlas pages",
        body,
        json_payload(json.dumps(_payload(found), separators=(",", ":"))),
        "application/json",
        bundle.PAGE_MAP,
    )


def _payload(found: PageMap) -> dict[str, Any]:
    """Return the data of the page. Addresses are text, since they exceed JavaScript's safe integers."""
    return {
        "pageSize": found.page_size,
        "layers": [
            {"key": layer.key, "labels": layer.labels, "colours": layer.colours}
            for layer in found.layers
        ],
        "groups": [
            {"name": clean(group.name), "strips": [_strip(strip) for strip in group.strips]}
            for group in found.groups
        ],
    }


def _strip(strip: MapStrip) -> dict[str, Any]:
    return {
        "start": f"{strip.start:x}",
        "end": f"{strip.end:x}",
        "permissions": strip.permissions,
        "offset": None if strip.offset is None else f"{strip.offset:x}",
        "perCell": strip.pages_per_cell,
        "runs": strip.runs,
        "filled": strip.filled,
    }


def _head(found: PageMap) -> str:
    sums, page = found.sums, found.page_size
    parts = [
        f"{format_bytes(sums.anonymous * page)} anonymous",
        f"{format_bytes(sums.file * page)} files and shared memory",
        f"{format_bytes(sums.exclusive * page)} mapped by this process only",
        f"{format_bytes(sums.swapped * page)} swapped",
        f"page size {format_bytes(page)}",
    ]
    return (
        f"<header>{brand('mematlas pages')}"
        f'<p class="command">{found.pid} {safe(found.command)[:600]}</p>'
        f'<h1><span class="figure">{sums.present:,}</span> pages present, '
        f'<span class="figure">{format_bytes(sums.present * page)}</span></h1>'
        f'<p class="soft">{" <i>·</i> ".join(map(safe, parts))}</p></header>'
    )


def _layers(found: PageMap) -> str:
    choices = "".join(
        f'<button type="button" data-layer="{layer.key}" aria-pressed="{str(not at).lower()}">'
        f"{safe(layer.title)}</button>"
        for at, layer in enumerate(found.layers)
    )
    legends = "".join(
        _legend(layer, found.page_size, first=not at) for at, layer in enumerate(found.layers)
    )
    return f'<div class="choices" role="group" aria-label="Colour by">{choices}</div>{legends}'


def _legend(layer: Layer, page_size: int, *, first: bool) -> str:
    """Return the labels that occur, each as a button that dims all others."""
    items = "".join(
        f'<button type="button" class="label" data-label="{number}" aria-pressed="false">'
        f'<span class="swatch {safe(colour)}"></span>{safe(label)}'
        f"<b>{format_bytes(pages * page_size)}</b></button>"
        for number, (label, colour, pages) in enumerate(
            zip(layer.labels, layer.colours, layer.pages, strict=True)
        )
        if pages and number
    )
    about = f'<span class="about">{safe(layer.about)}</span>' if layer.about else ""
    hidden = "" if first else " hidden"
    return f'<div class="legend-of" data-legend="{layer.key}"{hidden}>{items}{about}</div>'


def _names(found: PageMap) -> str:
    """Return a table of names with their present bytes, largest first."""
    sizes: dict[str, list[int]] = {}
    for group in found.groups:
        for strip in group.strips:
            size = sizes.setdefault(group.name or "(anonymous)", [0, 0, 0])
            size[0] += strip.present
            size[1] += (strip.end - strip.start) // found.page_size
            size[2] += 1
    ranked = sorted(sizes.items(), key=lambda item: -item[1][0])[:50]
    rows = "".join(
        f"<tr><td>{safe(name)}</td><td>{count}</td>"
        f"<td>{format_bytes(present * found.page_size)}</td>"
        f"<td>{format_bytes(total * found.page_size)}</td></tr>"
        for name, (present, total, count) in ranked
    )
    return (
        '<table><thead><tr><th scope="col">name</th><th scope="col">mappings</th>'
        '<th scope="col">present</th><th scope="col">size</th></tr></thead>'
        f"<tbody>{rows}</tbody></table>"
    )


def _notes(found: PageMap) -> list[str]:
    notes = list(found.hidden)
    if found.empty:
        notes.append(f"{found.empty} mappings without a page in memory or swap are not drawn")
    notes.append("swapped shared memory has no pagemap entry, so it is drawn as no page")
    return notes


_BODY = """{head}
<section id="map" aria-label="Map">
<div class="tools">{layers}
<label class="find-name">find <input id="find" type="search" placeholder="name or address"></label></div>
<p class="soft" id="scale"></p>
<div id="groups"></div>
</section>
<section id="names" aria-labelledby="names-title"><h2 id="names-title">By name</h2>
<div class="scroll">{names}</div></section>
<section id="notes" aria-labelledby="notes-title"><h2 id="notes-title">Notes</h2>
<ul class="asides">{notes}</ul></section>"""
