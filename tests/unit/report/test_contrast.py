"""Colours of text that is drawn on a canvas: WCAG 2.2 AA asks for a contrast of 4.5."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from mematlas.present.html import bundle

STYLE = (Path(bundle.__file__).parent / "assets" / "style.css").read_text(encoding="utf-8")
OWN = [f"box-{kind}-0" for kind in ("python", "native", "inlined")]
PALE = [f"box-{kind}-{tier}" for kind in ("python", "native", "inlined") for tier in (1, 2)]
PARTS = ["cow", "file", "before", "stack", "copy", "shared", "anon", "tracer", "unexplained"]
PAIRS = [
    *((ink, box) for box in OWN for ink in ("box-ink", "box-place")),
    *((ink, box) for box in PALE for ink in ("box-ink-pale", "box-place-pale")),
    *(("ink", f"part-{part}") for part in PARTS),
    *(("part-slack-ink", part) for part in ("part-slack", "part-slack-2")),
    *((ink, "page") for ink in ("ink", "soft", "accent", "warn", "match", "rss", "huge", "swap")),
    *((ink, "raised") for ink in ("ink", "soft", "accent", "warn", "match")),
    *(("box-ink", "box-process"), ("match-ink", "match"), ("box-folded-ink", "page")),
    *(("page", "ink"), ("tip-soft", "ink"), ("part-live-ink", "part-live")),
]


def colours(theme: str) -> dict[str, str]:
    """Return the colours of a theme; dark has those of light that it does not replace."""
    blocks = re.findall(r"^:root([^{]*)\{([^}]*)\}", STYLE, re.MULTILINE)
    found: dict[str, str] = {}
    for selector, body in blocks:
        if not selector.strip() or theme in selector:
            found.update(re.findall(r"--([\w-]+):\s*(#[0-9a-f]{6})\b", body))
    return found


def luminance(colour: str) -> float:
    """Return the relative luminance of a colour."""
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    """Return the contrast of two colours, 1 to 21."""
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def test_black_on_white_is_the_most() -> None:
    """The formula has the ends that the standard gives."""
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.01)


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_drawn_text_has_contrast(theme: str) -> None:
    """Each ink has a contrast of 4.5 to each ground that it is drawn on."""
    found = colours(theme)
    low = [(ink, ground, round(contrast(found[ink], found[ground]), 2))
           for ink, ground in PAIRS if contrast(found[ink], found[ground]) < 4.5]  # fmt: skip
    assert low == []


def test_the_system_theme_is_the_chosen_one() -> None:
    """Dark by the system and dark by the button have the same colours."""
    dark = re.findall(
        r'^\s*:root[^{]*(?:not\(\[data-theme="light"\]\)|="dark"\])[^{]*\{([^}]*)\}',
        STYLE,
        re.MULTILINE,
    )
    assert len(dark) == 2
    assert "".join(dark[0].split()) == "".join(dark[1].split())
