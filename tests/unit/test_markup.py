"""Names from files and models stay text in every format that the project writes."""

import ast
import csv
import html.parser
import io
import re
import xml.etree.ElementTree
from pathlib import Path

import pandas as pd
import pytest
from markdown_it import MarkdownIt

from spacer_lib.artifacts import provenance
from spacer_lib.evaluation.report import Run, make_report, write_report
from spacer_lib.markup import (
    csv_cell,
    csv_text,
    latex_table,
    markdown_code,
    markdown_table,
    markdown_text,
    one_line,
)
from spacer_lib.pictures.figures import report_figures
from spacer_lib.questions.card import card_text
from spacer_lib.training.card import model_card
from spacer_lib.training.recipe import config_from_dict

ROOT = Path(__file__).resolve().parents[2]
HOSTILE = (
    '=HYPERLINK("http://e.x","y") | a`b`` <script>alert(\'1\')</script> '
    "[x](javascript:y) ![i](http://e.x/i.png) [tos] **b** _e_ a_b ~~s~~ $x_{$ &lt; "
    "&#124; https://e.x www.e.x {%} \\ \\\\ ^[n] 50% # \r\n# h\n\n- l\t\x1b[31m "
    "\u202e \\"
)
STARTS = ["# h", "- l", "+ l", "* l", "1. l", "2) l", "> q", "---", "===", "    code"]
STARTS += [
    "*a*",
    "_a_",
    "a*",
    "**a**",
    "a __b__",
    "*",
    "_",
    "```",
    "~~~",
    "<div>",
    "[a]: http://e.x",
    "| a |",
    "#",
    "-",
    "***",
    "1.",
]
TEXTS = [HOSTILE, *STARTS, "half a pair \ud800"]


def parsed(text):
    return MarkdownIt("commonmark").enable(["table", "strikethrough"]).parse(text)


def pieces(text):
    """``[[(type, content), ...]]`` of each inline part; ``{type}`` of all blocks."""
    tokens = parsed(text)
    inline = [
        [(child.type, child.content) for child in token.children]
        for token in tokens
        if token.type == "inline"
    ]
    return inline, {token.type for token in tokens}


def plain(parts):
    assert {kind for kind, _ in parts} <= {"text"}, parts
    return "".join(content for _, content in parts)


@pytest.mark.parametrize("value", TEXTS)
def test_a_text_is_itself_in_a_paragraph_and_in_a_cell(value):
    inline, blocks = pieces(markdown_text(value))
    assert [plain(parts) for parts in inline] == [one_line(value)]
    assert blocks == {"paragraph_open", "inline", "paragraph_close"}
    inline, blocks = pieces(markdown_table([value, "n"], [[value, -3.2], ["b", value]]))
    found = [plain(parts) for parts in inline]
    assert found == [one_line(v) for v in (value, "n", value, "-3.2", "b", value)]
    assert "html_block" not in blocks


@pytest.mark.parametrize("value", [*TEXTS, "a``b", "`", "", "`a"])
def test_a_text_is_itself_in_code(value):
    text = f"in {markdown_code(value)} out"
    table = markdown_table(["a"], []) + f"| {markdown_code(value)} |\n"
    for inline in (pieces(text)[0][0], pieces(table)[0][-1]):
        (code,) = [content for kind, content in inline if kind == "code_inline"]
        # A bar is escaped, which counts in tables alone.
        assert code.replace(r"\|", "|").strip() == one_line(value).strip()


def test_what_needs_no_escape_has_none():
    for text in (
        "object_rel_distance",
        "40.3 [36.7, 43.9] †",
        "-3.2",
        "+7.0 [3.8, 10]",
    ):
        assert markdown_text(text) == text
    assert markdown_text("[1, 2](x)") != "[1, 2](x)"


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t=", "\r=", " =", "\n@"])
def test_no_cell_is_a_formula_and_numbers_stay_numbers(start):
    table = pd.DataFrame(
        {start + "name": [f"{start}1+1", "b"], "x": [-3.2, 1], "s": ["-3.2", "-1e-3"]}
    )
    (names, first, second) = csv.reader(io.StringIO(csv_text(table)))
    assert names[0][0] == first[0][0] == "'" and names[1:] == ["x", "s"]
    assert first[1:] == ["-3.2", "-3.2"] and second == ["b", "1.0", "-1e-3"]
    assert csv_text(table.iloc[:0]).count("\n") == 1
    assert csv_cell("-inf") == "'-inf" and csv_cell("-") == "'-" and csv_cell("") == ""


def test_latex_has_one_cell_a_value():
    table = pd.DataFrame({"a_b": [HOSTILE, "[2cm] x", "* y"], "#": [-3.2, HOSTILE, 1]})
    text = latex_table(table, "two\nlines \\ %")
    assert text.startswith("% two\n% lines \\ %\n\\begin{tabular}{lr}\n\\toprule\n")
    rows = [line for line in text.splitlines() if line.endswith(r"\\")]
    assert len(rows) == 4
    for line in rows:
        assert len(re.findall(r"(?<!\\)&", line)) == 1
        assert not re.match(r"[\[*]", line)
    assert "a\\_b & \\# \\\\\n\\midrule\n" in text and "\n{}[2cm] x" in text
    body = text.partition("\\midrule\n")[2].partition("\\bottomrule")[0]
    bare = re.sub(r"\\(textasciitilde|textasciicircum|textbackslash)\b", "", body)
    assert not re.search(r"(?<!\\)[#$%_^~]", bare)


# ---------------------------------------------------------------- what is written


def records(share):
    """Predictions that hold the name wherever a file or a model can put one."""
    return [
        {
            "id": f"{number}{HOSTILE}",
            "scene_name": f"scene{number // 3:04}_00",
            "dataset": "scannet",
            "question_type": ("object_counting", "room_size_estimation")[number % 2],
            "prediction": HOSTILE,
            "answer": "1",
            "groups": {"source": HOSTILE if number % 3 else "b"},
            "score": float(number % share == 0),
            "failure": f"missing_media: {HOSTILE}" if number % 5 == 0 else None,
        }
        for number in range(36)
    ]


class Elements(html.parser.HTMLParser):
    """Names of elements, and the texts of table cells."""

    def __init__(self, text):
        super().__init__()
        self.found, self.cells = [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.found.append(tag)
        if tag in ("td", "th"):
            self.cells.append("")

    def handle_data(self, data):
        if self.found and self.found[-1] in ("td", "th"):
            self.cells[-1] += data


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    out = tmp_path_factory.mktemp("report")
    runs = [
        Run("base", [records(2)], edited=(HOSTILE,)),
        Run(HOSTILE, [records(3)]),
    ]
    for name in (HOSTILE, "base"):
        made = make_report(runs, benchmark="vsi", reference=name)
        write_report(made, out / name[:4], report_figures(made, out / name[:4]))
    return out


def test_every_file_of_a_report_holds_the_name_as_text(report):
    files = [path for path in report.rglob("*") if path.is_file()]
    counts = {kind: 0 for kind in (".md", ".csv", ".tex", ".svg")}
    for path in files:
        if path.suffix == ".pdf":
            continue
        counts[path.suffix] += 1
        text = path.read_text(encoding="utf-8")
        if path.suffix == ".md":
            inline, blocks = pieces(text)
            kinds = {kind for parts in inline for kind, _ in parts}
            assert kinds <= {"text", "image", "softbreak"}
            images = [c for parts in inline for kind, c in parts if kind == "image"]
            assert set(images) <= {"scores", "deltas"}
            assert not {"html_block", "fence", "bullet_list_open", "hr"} & blocks
        elif path.suffix == ".csv":
            rows = list(csv.reader(io.StringIO(text)))
            assert len({len(row) for row in rows}) == 1
            for cell in (cell for row in rows for cell in row):
                assert cell[:1] not in ("=", "+", "@", "\t", "\r"), cell
                assert cell[:1] != "-" or float(cell) < 0
        elif path.suffix == ".tex":
            lines = [line for line in text.splitlines() if line.endswith(r"\\")]
            assert len({len(re.findall(r"(?<!\\)&", line)) for line in lines}) == 1
        else:
            xml.etree.ElementTree.fromstring(text)
            assert "script" not in Elements(text).found
    assert min(counts.values()) >= 2
    whole = (report / "base" / "report.md").read_text(encoding="utf-8")
    assert any(one_line(HOSTILE) in plain(p) for p in pieces(whole)[0] if len(p) == 1)


def test_cards_hold_the_name_as_text():
    task = {"wanted": None, "candidates": 3, "kept": 2}
    card = card_text(
        {
            "counts": {"train": {HOSTILE: 2}},
            "recipe": {
                "name": HOSTILE,
                "source": HOSTILE,
                "grid_size": 10,
                "frames": None,
            },
            "provenance": {**provenance(), "generator_version": 1},
            "seed": 0,
            "tasks": {"train": {HOSTILE: task}},
            "scenes": {"train": ["a"]},
            "dropped": [],
        }
    )
    inert(card, links=1)
    run = {
        "provenance": provenance(),
        "config_hash": "x",
        "steps": 1,
        "seconds": 1.0,
        "workers": 1,
        "device": HOSTILE,
        "dataset": {"path": HOSTILE, "rows": 1, "part": HOSTILE, "sha256": "x"},
        "last_steps": {"steps": 1, "metrics": {f"rewards/{HOSTILE}": 0.5}},
    }
    config = config_from_dict({"recipe": HOSTILE, "model_path": HOSTILE})
    inert(str(model_card(config, run)), links=0)


def inert(card, links):
    body = card.split("\n---\n", 1)[1]
    inline, blocks = pieces(body)
    flat = [(kind, content) for parts in inline for kind, content in parts]
    allowed = {"text", "softbreak", "code_inline", "link_open", "link_close"}
    assert {kind for kind, _ in flat} <= allowed
    assert sum(kind == "link_open" for kind, _ in flat) == links
    assert not {"html_block", "bullet_list_open", "hr"} & blocks
    texts = [content for _, content in flat]
    assert any(one_line(HOSTILE)[-20:] in text for text in texts)


def test_a_table_shown_in_a_notebook_holds_the_name_as_text():
    name = one_line(HOSTILE)[:40]  # pandas shortens long cells
    shown = Elements(pd.DataFrame({"run": [name]})._repr_html_())
    assert "script" not in shown.found and name in map(str.strip, shown.cells)


@pytest.mark.parametrize("folder", ["spacer_lib", "benches", "scripts", "notebooks"])
def test_tables_are_written_in_one_place(folder):
    writers = {"to_csv", "to_markdown", "to_html", "to_latex"}
    faults = [
        f"{path.relative_to(ROOT)} line {node.lineno}"
        for path in sorted((ROOT / folder).rglob("*.py"))
        if path.name != "markup.py"
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Attribute) and node.attr in writers
    ]
    assert faults == []
