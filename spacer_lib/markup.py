"""Texts from files and models, made inert in Markdown, HTML, CSV and LaTeX.

A room's name, a category, an answer or the name of a run may hold anything: a bar that
ends a cell, a link, HTML, a formula that a spreadsheet runs. All tables and cards are
written through here. A text becomes one line in every format but HTML, which keeps its
lines; characters that cannot be printed become U+FFFD.
"""

import html
import math
import re
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

# What tables of ours hold stays as it is: no link begins with an interval such as
# [36.7, 43.9], and a mark at a word's end, as in "macro*", only ends an emphasis.
_KEPT = r"\[[-+]?[\d.]+%?, [-+]?[\d.]+%?\](?![(\[:])|(?<=[^\W_])[*_](?=\s|$)"
_MARKDOWN = re.compile(
    rf"(?P<kept>{_KEPT})"
    r"|(?P<escaped>[\\`*<>\[\]|~$]"
    r"|&(?=#?\w+;)"  # an entity
    r"|(?<![^\W_])_|_(?![^\W_])"  # within a word it is no emphasis
    r"|:(?=//)|(?<=www)\.(?=\w))"  # GitHub links bare addresses
)
# What makes a block of the line that it begins.
_BLOCK = re.compile(r"(?P<mark>#{1,6}|[-+=]|\d{1,9}(?=[.)])[.)])(?=\s|$)|[-=]{2,}$")
_FORMULA = "=+-@"


def one_line(value: object) -> str:
    """A value as one line of printable text.

    Examples
    --------
    >>> one_line("a\\tb\\r\\n c\\x1b[31m")
    'a b c\\ufffd[31m'
    """
    words = " ".join(str(value).split())
    return "".join(c if c.isprintable() else "\ufffd" for c in words)


def markdown_text(value: object) -> str:
    """A value as text in Markdown, wherever it stands in a line.

    Examples
    --------
    >>> print(markdown_text("a|b <b>`x`</b> [y](z) object_counting -3.2"))
    a\\|b \\<b\\>\\`x\\`\\</b\\> \\[y\\](z) object_counting -3.2
    >>> print(markdown_text("# a"), markdown_text("40.3 [36.7, 43.9]"))
    \\# a 40.3 [36.7, 43.9]
    """
    text = one_line(value)
    begins = _BLOCK.match(text)
    text = _MARKDOWN.sub(lambda m: m["kept"] or "\\" + m["escaped"], text)
    if not begins:
        return text
    place = re.search(r"[^\d]", text)
    at = place.start() if place else 0
    return f"{text[:at]}\\{text[at:]}"


def markdown_code(value: object) -> str:
    """A value as code in Markdown: within more backticks than it has.

    Examples
    --------
    >>> print(markdown_code("a`b"), markdown_code("x|y"), markdown_code(""))
    `` a`b `` `x\\|y` ` `
    """
    text = one_line(value) or " "
    longest = max((len(run) for run in re.findall("`+", text)), default=0)
    fence = "`" * (longest + 1)
    if longest:
        text = f" {text} "
    return fence + text.replace("|", r"\|") + fence


def markdown_table(
    columns: Sequence[object], rows: Iterable[Sequence[object]], *, left: int = 1
) -> str:
    """A Markdown table, a line for each row.

    Parameters
    ----------
    columns : list
    rows : iterable of list
    left : int
        Columns that are aligned to the left; those after it, numbers, to the right.
    """

    def line(cells: Iterable[str]) -> str:
        return f"| {' | '.join(cells)} |"

    rule = ["---"] * left + ["---:"] * (len(columns) - left)
    body = [line(map(markdown_text, row)) for row in rows]
    return "\n".join([line(map(markdown_text, columns)), line(rule), *body]) + "\n"


def html_text(value: object) -> str:
    """A value as text in HTML, within an element or a quoted attribute.

    Examples
    --------
    >>> print(html_text("<script>a('b')</script> & \\x1b"))
    &lt;script&gt;a(&#x27;b&#x27;)&lt;/script&gt; &amp; \ufffd
    """
    return html.escape("\n".join(map(one_line, str(value).splitlines())))


def csv_cell(value: Any) -> Any:
    """A value of a CSV file; a text that a spreadsheet would run gets an apostrophe.

    Examples
    --------
    >>> csv_cell("=1+1"), csv_cell("-3.2"), csv_cell(-3.2), csv_cell(" @x")
    ("'=1+1", '-3.2', -3.2, "'@x")
    """
    if not isinstance(value, str):
        return value
    text = one_line(value)
    return f"'{text}" if text[:1] in (*_FORMULA,) and not _is_number(text) else text


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


def csv_text(table: "pd.DataFrame") -> str:
    """A frame as CSV without its index: numbers are numbers, texts ``csv_cell``'s."""
    inert = {
        csv_cell(name): column
        if column.dtype.kind in "biuf"
        else column.map(csv_cell, na_action="ignore")
        for name, column in table.items()
    }
    return str(type(table)(inert).to_csv(index=False))


def latex_table(table: "pd.DataFrame", caption: str = "") -> str:
    """A frame as a booktabs table, escaped; the caption is a comment above it."""
    body = table.map(one_line).set_axis(list(map(one_line, table.columns)), axis=1)
    text = body.to_latex(
        index=False, escape=True, column_format="l" + "r" * (table.shape[1] - 1)
    )
    # After the end of a row LaTeX takes a bracket or a star for an argument.
    text = re.sub(r"(?m)^(?=[\[*])", "{}", text)
    note = "".join(f"% {one_line(part)}\n" for part in caption.splitlines())
    return note + text.replace("–", "--")
