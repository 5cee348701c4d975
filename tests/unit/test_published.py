"""The papers' tables: whole, sourced, and consistent in themselves."""

import math
import re

import pytest

from spacer_lib import published
from spacer_lib.errors import SpacerError

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
    with pytest.raises(SpacerError, match="expected SpaceR SG-RLVR,"):
        published.value("spacer_table1", "SpaceR SG-RLV", "VSI-Bench")
    with pytest.raises(SpacerError, match="Appearance order"):
        published.value("spacer_table5", "Ground truth", "appearance")
    with pytest.raises(SpacerError, match="vsgrpo_table3"):
        published.table("vsgrpo_table")
    with pytest.raises(SpacerError, match="has no column videos.*questions"):
        published.value("context", "STI-Bench SR_sub", "videos")


def test_a_table_handed_out_may_be_changed():
    mine = published.table("spacer_table2")
    mine["value"] = 0.0
    assert published.value("spacer_table2", "w/o-SR data", "VSI-Bench") == 26.2


def test_tables_ship_with_the_package():
    setup = (published.resources.files("spacer_lib") / "../pyproject.toml").read_text()
    assert '"*.csv"' in setup
