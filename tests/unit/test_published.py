"""The papers' tables: whole, sourced, and consistent in themselves."""

import ast
import math
import re

import jupytext
import matplotlib as mpl
import matplotlib.pyplot as plt
import pytest
from matplotlib.figure import Figure
from support import refused

from spacer_lib import published
from spacer_lib.artifacts import PROJECT_ROOT
from spacer_lib.pictures import evaluation_plots, figures, training_plots
from spacer_lib.pictures.style import FAINT, PALETTE, use_house_style

each_table = pytest.mark.parametrize("name", published.names())
# The eight VSI-Bench tasks and their printed average, table by table.
AVERAGED = {
    "spacer_table5": "Overall",
    "spacer_table6": "Overall",
    "spatial_r1_table1": "Overall Acc (Avg.)",
    "vsgrpo_table1": "Avg",
    "vsgrpo_table2": "Avg",
}
SPAR = [f"SPAR-Bench {part}" for part in ("Overall", "Single-view", "Multi-view")]


def cells(name, column):
    """(row, values by column, note of ``column``) of each row that prints it."""
    tidy, printed = published.table(name), published.wide(name)
    notes = tidy[tidy["column"] == column].set_index("row")["note"]
    for row in notes.index:
        if not math.isnan(printed.loc[row, column]):
            yield row, printed.loc[row], notes[row]


def test_every_table_of_the_three_papers_is_there():
    shapes = {name: published.wide(name).shape for name in published.names()}
    expected = {
        "spacer_table1": (18, 11),  # one of them the printed gains
        "spacer_table2": (5, 10),
        "spacer_table3": (19, 13),
        "spacer_table4": (4, 6),
        "spacer_table5": (3, 10),
        "spacer_table6": (4, 10),
        "spatial_r1_table1": (23, 9),
        "vsgrpo_table1": (6, 9),
        "vsgrpo_table2": (18, 9),
        "vsgrpo_table3": (4, 4),
    }
    assert {name: shapes[name] for name in expected} == expected


@each_table
def test_every_number_has_a_source_a_unit_and_one_place(name):
    tidy = published.table(name)
    assert tuple(tidy.columns) == published.COLUMNS
    assert set(tidy["paper"]) <= set(published.SOURCES)
    for column in ("table", "row", "column", "unit"):
        assert (tidy[column].str.strip() != "").all(), column
    assert not tidy.duplicated(["row", "column"]).any()
    shares = tidy.loc[tidy["unit"] == "%", "value"].dropna()
    assert shares.between(0, 100).all()


@pytest.mark.parametrize("name, column", AVERAGED.items())
def test_averages_follow_from_their_cells_or_say_that_they_do_not(name, column):
    checked = 0
    for row, values, note in cells(name, column):
        tasks = values.drop([column, "Map accuracy"], errors="ignore")
        if tasks.isna().any():
            continue
        assert len(tasks) == 8
        checked += 1
        noted = re.search(r"mean of the eight tasks: ([\d.]+)", note)
        if noted:
            assert float(noted[1]) == pytest.approx(tasks.mean(), abs=0.006), row
            assert abs(tasks.mean() - values[column]) > 0.05, row
        else:
            assert tasks.mean() == pytest.approx(values[column], abs=0.0501), row
    assert checked


@pytest.mark.parametrize("name", ["spacer_table1", "spacer_table2", "spacer_table3"])
def test_spar_overall_is_the_same_mixture_in_every_row(name):
    for row, values, note in cells(name, SPAR[0]):
        if "printed" in row or values[SPAR].isna().any():
            continue
        overall, single, multi = values[SPAR]
        mixture = 0.4 * single + 0.6 * multi
        if note:
            assert float(note.rsplit(" ", 1)[1]) == pytest.approx(mixture, abs=0.006)
        else:
            assert overall == pytest.approx(mixture, abs=0.101), row


def test_printed_changes_follow_from_the_rows_they_compare():
    changes = {"spacer_table1": [], "spacer_table3": []}
    one = published.wide("spacer_table1")
    ours, base = one.loc["SpaceR SG-RLVR"], one.loc["Qwen2.5-VL-7B-Instruct"]
    gain = one.loc["SpaceR SG-RLVR, printed gain"].dropna()
    changes["spacer_table1"] = [(gain, ours - base)]
    three = published.wide("spacer_table3")
    for row in three.index[three.index.str.endswith("printed change")]:
        model = row.split(" + ")[0]
        think, direct = f"{model} + think", f"{model} + non-think"
        difference = three.loc[think] - three.loc[direct]
        changes["spacer_table3"].append((three.loc[row].dropna(), difference))
    for name, pairs in changes.items():
        tidy = published.table(name).set_index(["row", "column"])
        for printed, computed in pairs:
            for column, number in printed.items():
                if "differ by" not in tidy.loc[(printed.name, column), "note"]:
                    assert number == pytest.approx(computed[column], abs=0.051)


def test_the_same_run_is_printed_alike_in_different_tables():
    one, two = published.wide("spacer_table1"), published.wide("spacer_table2")
    assert two.loc["SpaceR SG-RLVR"].equals(one.loc["SpaceR SG-RLVR", two.columns])
    vsi = one.loc["SpaceR SG-RLVR", "VSI-Bench"]
    assert published.value("spacer_table4", "SpaceR", "VSI-Bench Acc") == vsi
    five, six = published.wide("spacer_table5"), published.wide("spacer_table6")
    assert five.loc["Model-generated"].equals(six.loc["10 × 10"])
    assert five.loc["Model-generated", "Overall"] == vsi
    # GPT-4o stands in all three papers.
    gpt = {
        one.loc["GPT-4o", "VSI-Bench"],
        published.value("spatial_r1_table1", "GPT-4o", "Overall Acc (Avg.)"),
        published.value("vsgrpo_table2", "GPT-4o (V)", "Avg"),
    }
    assert gpt == {34.0}


def test_a_dash_is_nan_and_an_unknown_name_meets_its_neighbours():
    assert math.isnan(published.value("spacer_table1", "Gemini 2.5 Pro", "VSI-Bench"))
    with refused("published.unknown-row", says="SpaceR SG-RLVR?"):
        published.value("spacer_table1", "SpaceR SG-RLV", "VSI-Bench")
    with refused("published.unknown-column", says="Appearance order"):
        published.value("spacer_table5", "Ground truth", "appearance")
    with refused("published.unknown-table", says="vsgrpo_table"):
        published.table("vsgrpo_table")
    with refused("published.no-number", says="questions"):
        published.value("context", "STI-Bench SR_sub", "videos")


def test_a_table_handed_out_may_be_changed():
    mine = published.table("spacer_table2")
    mine["value"] = 0.0
    assert published.value("spacer_table2", "w/o-SR data", "VSI-Bench") == 26.2


def test_tables_ship_with_the_package():
    assert '"*.csv"' in (PROJECT_ROOT / "pyproject.toml").read_text()


# ---------------------------------------------------------------- as pictures


@pytest.fixture
def house():
    with mpl.rc_context():
        use_house_style()
        yield
    plt.close("all")


@each_table
def test_a_drawn_table_shows_exactly_what_its_file_holds(name, house):
    table, tidy = published.wide(name), published.table(name)
    figure = figures.published_table(name)
    texts = figure.axes[0].texts
    gids = {t.get_gid(): t.get_text() for t in texts}
    cells = {k[5:]: text for k, text in gids.items() if k and k.startswith("cell")}
    assert len(cells) == table.size
    for row, values in table.iterrows():
        for column, number in values.items():
            text = cells[f"{row}|{column}"]
            assert text == "–" if math.isnan(number) else float(text) == number
    notes = tidy.loc[tidy["note"] != "", "note"].unique()
    below = figure.get_supxlabel()
    assert [line[3:] for line in below.splitlines()] == list(notes)
    letters = [t.get_text() for t in texts if t.get_gid() == "mark"]
    assert len(letters) == (tidy["note"] != "").sum()


def test_paired_dots_are_coloured_by_which_is_greater(house):
    pairs = {"a": (62.1, 62.2), "b": (47.9, 43.9), "c": (25.2, 50.3)}
    ax = evaluation_plots.paired_dots(
        pairs, Figure().subplots(), ("x", "y"), margin=0.5
    )
    dots = {
        side: [d for d in ax.lines if d.get_gid() == side]
        for side in ("first", "second")
    }
    ends = [[dot.get_xdata()[0] for dot in found] for found in dots.values()]
    drawn = list(zip(*ends, strict=True))
    assert drawn == list(pairs.values())
    colors = [dot.get_markerfacecolor() for dot in dots["second"]]
    assert colors == [FAINT, PALETTE[5], PALETTE[2]]
    assert [t.get_text() for t in ax.texts][2:4] == ["47.9", "43.9"]


def test_interval_dots_leave_unprinted_intervals_hollow(house):
    values = {"printed": (1.7, None, None), "ours": (3.3, -1.4, 8.4)}
    ax = evaluation_plots.interval_dots(values, Figure().subplots(), bands=(1.9, 2.9))
    dots = [line for line in ax.lines if line.get_gid() == "value"]
    assert [dot.get_markerfacecolor() for dot in dots] == ["white", PALETTE[0]]
    spans = [list(line.get_xdata()) for line in ax.lines if len(line.get_xdata()) == 2]
    assert [-1.4, 8.4] in spans
    bands = [p.get_gid() for p in ax.patches]
    assert bands == ["band:2.9", "band:1.9"]


def test_arm_curves_draw_every_run_and_their_mean_over_common_steps(house):
    def run(*values):
        return [{"step": i + 1, "r": v} for i, v in enumerate(values)]

    histories = {"arm": [run(0.0, 1.0, 5.0), run(2.0, 3.0)], "none": [[{"step": 1}]]}
    ax = training_plots.arm_curves(histories, Figure().subplots(), "r")
    *runs, mean = ax.lines
    assert [line.get_gid() for line in runs] == ["run:arm", "run:arm"]
    assert list(mean.get_ydata()) == [1.0, 2.0]
    assert mean.get_label() == "arm (n = 2)"


def test_exports_repeat_to_the_byte_and_previews_are_small(tmp_path, house):
    figure = figures.published_table("spacer_table4")
    paths = figures.save(figure, tmp_path / "a" / "t", ("svg", "pdf"))
    assert [path.name for path in paths] == ["t.svg", "t.pdf"]
    before = [path.read_bytes() for path in paths]
    again = figures.save(
        figures.published_table("spacer_table4"), tmp_path / "t", ("svg", "pdf")
    )
    assert [path.read_bytes() for path in again] == before
    full = figures.save(figure, tmp_path / "t", ("png",))[0].stat().st_size
    assert len(figures.preview(figure)) < full / 2
    with refused("pictures.unknown-format", says="gif"):
        figures.save(figure, tmp_path / "t", ("gif",))


# ---------------------------------------------------------------- in notebook 09


@pytest.fixture(scope="module")
def cells_of_09():
    path = PROJECT_ROOT / "notebooks" / "09_reproduce_figures.py"
    cells = jupytext.read(path).cells
    kinds = {
        kind: [c.source for c in cells if c.cell_type == kind]
        for kind in ("code", "markdown")
    }
    return kinds["code"], kinds["markdown"]


def test_the_notebook_draws_every_table(cells_of_09):
    code = "\n".join(cells_of_09[0])
    shown = set(re.findall(r'^show\("(\w+)"\)', code, flags=re.M))
    papers = {name for name in published.names() if "_table" in name}
    assert shown == papers
    for name in published.names():
        assert name in shown or f'"{name}"' in code, name


def test_the_notebook_types_no_result(cells_of_09):
    """Numbers come from files: none in its code or prose is one that is printed."""
    tidy = [published.table(name) for name in published.names()]
    results = {f"{v:g}" for t in tidy for v in t["value"].dropna() if v % 1 and v > 12}
    assert {"45.6", "32.5", "38.7", "62.1"} <= results
    code, prose = cells_of_09
    for source in code:
        typed = {
            f"{node.value:g}"
            for node in ast.walk(ast.parse(source))
            if isinstance(node, ast.Constant) and type(node.value) in (int, float)
        }
        assert not typed & results, source
    for source in prose:
        assert not set(re.findall(r"\d+\.\d+", source)) & results, source
