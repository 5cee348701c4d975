"""Sphinx's settings of the site. ``scripts/site.sh`` builds it."""

import sys
from pathlib import Path

from docutils import nodes
from docutils.utils.math import latex2mathml

sys.path.insert(0, str(Path(__file__).parent))  # anchors

project = "SpaceR, reproducible"
author = "the spacer-lib contributors"
copyright = "2025, the spacer-lib contributors. Text and figures: CC BY 4.0"
html_title = project
html_theme = "furo"
html_show_sphinx = False
html_copy_source = False
html_math_renderer = "mathml"  # mathjax would be fetched from another host
extensions = ["myst_nb"]

nb_execution_mode = "off"  # pages show the outputs that are committed
nb_merge_streams = True
nb_output_stderr = "show"
myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 3
myst_heading_slug_func = "anchors.anchor"
suppress_warnings = [
    "mystnb.unknown_mime_type",  # a figure carries the data behind it
    "myst.header",  # sections of a page may skip a level
    "misc.highlighting_failure",  # blocks of a README hold placeholders
]

# Commands that docutils' converter does not know, and those that it does.
_SPELT = {"\\dots": "\\ldots", "\\big(": "\\bigl(", "\\big)": "\\bigr)"}


def _mathml(translator, node):
    """Write a formula as MathML, which browsers draw without a script."""
    code = node.astext()
    for theirs, known in _SPELT.items():
        code = code.replace(theirs, known)
    block = isinstance(node, nodes.math_block)
    translator.body.append(latex2mathml.tex2mathml(code, as_block=block))
    raise nodes.SkipNode


def setup(app):
    """Register the renderer of formulas."""
    app.add_html_math_renderer("mathml", (_mathml, None), (_mathml, None))
    return {"parallel_read_safe": True}
