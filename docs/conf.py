"""Settings of the documentation site, which `scripts/docs` builds."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Any

from docutils import nodes

from mematlas import __version__

if TYPE_CHECKING:
    from sphinx.application import Sphinx

project = "mematlas"
author = "the authors of mematlas"
copyright = "the authors of mematlas, Apache-2.0"  # noqa: A001 - Sphinx reads this name
release = version = __version__
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx_copybutton"]
exclude_patterns = ["decisions"]
nitpicky = False  # types of NumPy and of the standard library have no pages here

html_theme = "furo"
html_title = f"mematlas {__version__}"
html_baseurl = os.environ.get("MEMATLAS_DOCS_URL", "")
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_sourcelink = False
pygments_style = "a11y-high-contrast-light"
pygments_dark_style = "a11y-high-contrast-dark"
html_theme_options = {
    "navigation_with_keys": True,
    "light_css_variables": {"color-brand-primary": "#0b6b62", "color-brand-content": "#0b6b62"},
    "dark_css_variables": {"color-brand-primary": "#57c9bb", "color-brand-content": "#57c9bb"},
}

myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 4  # links use the anchors that forges make, too
highlight_language = "text"
default_role = "literal"  # docstrings quote names with single backquotes
autodoc_member_order = "alphabetical"
autodoc_typehints = "signature"
autodoc_preserve_defaults = True
copybutton_prompt_text = r">>> |\.\.\. |\$ |# "
copybutton_prompt_is_regexp = True
copybutton_only_copy_prompt_lines = True

_LANGUAGES = {r">>> ": "pycon", r"\$ ": "console", r"mematlas \w": "bash"}
_ESCAPED = re.compile(r"[*|\\](?![^`]*`[^`]*$)|_(?=\W|$)")


def colour_blocks(_app: Sphinx, tree: nodes.document) -> None:
    """Choose the language of indented code blocks, which cannot name theirs, by their first line."""
    for block in tree.findall(nodes.literal_block):
        if block.get("language", "default") in {"default", "none"}:
            fitting = (
                name for start, name in _LANGUAGES.items() if re.match(start, block.rawsource)
            )
            block["language"] = next(fitting, "text")


def as_rst(
    _app: Sphinx, _kind: str, _name: str, _value: object, _options: object, lines: list[str]
) -> None:
    """Rewrite a docstring, which is plain text, as reStructuredText: what is indented is shown as it is."""
    shown: list[str] = []
    literal = example = False
    for line in lines:
        example = line.startswith((">>>", "...")) or (example and bool(line.strip()))
        indented = line.startswith("  ") and not example
        if indented and not literal:
            shown += ["", "::", ""]
        elif literal and not indented and line.strip():
            shown.append("")
        literal = indented or (literal and not line.strip())
        shown.append(line if indented or example else _ESCAPED.sub(r"\\\g<0>", line))
    lines[:] = shown


def setup(app: Sphinx) -> dict[str, Any]:
    """Register what this site adds to Sphinx."""
    app.connect("doctree-read", colour_blocks)
    app.connect("autodoc-process-docstring", as_rst)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
