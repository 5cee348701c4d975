"""``spacer reward`` on files of any source."""

import json

import pytest
from support import refused

from spacer_lib import cli
from spacer_lib.artifacts import read_json, write_jsonl
from spacer_lib.rewards.config import get_preset
from spacer_lib.rewards.files import score_files
from spacer_lib.rewards.score import score

MAP = {"chair": [[2, 5], [4, 4]], "lamp": [[6, 8]], "bed": [[1, 1]]}
CHOICE = {
    "id": "c",
    "problem_type": "multiple choice",
    "solution": "<answer>B</answer>",
    "options": ["A. left", "B. right"],
    "cognitive_map": MAP,
}
COUNT = {"id": "n", "problem_type": "numerical", "solution": "10"}


def said(answer, cells=None, thought="the lamp is left of it"):
    drawn = "" if cells is None else f"<map>{json.dumps(cells)}</map>"
    return f"<think>{drawn}{thought}</think><answer>{answer}</answer>"


@pytest.fixture
def files(tmp_path):
    """Writes both files; gives back the command's arguments."""

    def write(items, completions):
        paths = tmp_path / "items.jsonl", tmp_path / "completions.jsonl"
        for path, rows in zip(paths, (items, completions), strict=True):
            if isinstance(rows, str):
                path.write_text(rows, encoding="utf-8")
            else:
                write_jsonl(path, rows)
        return ["reward", "--items", str(paths[0]), "--completions", str(paths[1])]

    return write


def scored(arguments, *more):
    out = arguments[-1] + ".out.json"
    assert cli.main([*arguments, *more, "--json", out]) == 0
    return read_json(out)


def error_line(capsys, arguments):
    assert cli.main(arguments) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1
    return lines[0]


def test_components_and_failures_of_each_completion(files):
    completions = [
        {"id": "n", "completion": said("8")},
        {"id": "c", "completion": said("B", MAP)},
        {"id": "c", "completion": said("right")},
        {"id": "n", "completion": "ten"},
        {"id": "c", "completion": said("B", MAP, thought="")},
    ]
    result = scored(files([CHOICE, COUNT], completions))
    assert result["preset"] == "ours" and result["unanswered"] == []
    shown = [
        (row["id"], row["total"], *row["components"].values(), row["failures"])
        for row in result["rows"]
    ]
    assert shown == [
        ("n", 1.7, 1, 0.7, 0, 0, []),
        ("c", 3, 1, 1, 1, 0, []),
        ("c", 2, 1, 1, 0, 0, ["no_map"]),
        ("n", 0, 0, 0, 0, 0, ["no_answer_tag"]),
        ("c", 2, 0, 1, 1, 0, ["empty_think"]),
    ]
    assert set(result["rows"][0]["components"]) == {"format", "task", "map", "length"}
    assert result["rows"][0]["reasons"][1] == "task: 0.7 of 1"


def test_added_components_read_what_they_need(files, tmp_path):
    boxes = {"chair": [[0, 0, 0.5, 0.5], [1, 1, 0.5, 0.5]], "bed": [[2, 2, 1, 2]]}
    more = {"question_type": "object_counting", "categories": ["chair"], "boxes": boxes}
    item = {**COUNT, "solution": "2", "cognitive_map": MAP, **more}
    arguments = files([item], [{"id": "n", "completion": said("2", MAP)}])
    for name, paid in (("consistency", 1), ("relations", 1), ("boxes", 0)):
        (row,) = scored(arguments, "--preset", f"ours+{name}")["rows"]
        assert row["components"][name] == pytest.approx(paid)
        assert row["total"] == pytest.approx(sum(row["components"].values()))
    drawn = [{"id": "n", "completion": said("2", boxes)}]
    (row,) = scored(files([item], drawn), "--preset", "ours+boxes")["rows"]
    assert row["components"]["boxes"] == pytest.approx(1) and not row["failures"]
    files([{**item, "categories": 7}], drawn)
    paths = tmp_path / "items.jsonl", tmp_path / "completions.jsonl"
    with refused("rows.wrong-type", says="categories"):
        score_files(*paths, get_preset("ours"))


def test_presets_without_a_map_report_no_map_failure(files):
    arguments = files([CHOICE], [{"id": "c", "completion": said("A")}])
    (row,) = scored(arguments, "--preset", "spatial-r1")["rows"]
    assert row["failures"] == [] and row["components"]["map"] == 0


def test_the_length_bonus_needs_counted_tokens(files, capsys):
    text = said("B " * 200)
    completions = [
        {"id": "c", "completion": said("B"), "completion_tokens": 400},
        {"id": "c", "completion": said("B", thought="word " * 400)},
        {"id": "c", "completion": text, "completion_tokens": None},
    ]
    arguments = files([CHOICE], completions)
    rows = scored(arguments, "--preset", "spacer-paper")["rows"]
    assert [row["components"]["length"] for row in rows] == [0.2, 0, 0]
    assert "2 completions without completion_tokens" in capsys.readouterr().out
    scored(arguments)
    assert "completion_tokens" not in capsys.readouterr().out


def test_completions_of_one_id_are_a_group(files):
    long = {"completion_tokens": 400}
    pair = [{"id": "n", "completion": said(a), **long} for a in ("10", "1")]
    released = "--preset", "spacer-released"
    for completions, bonuses in ((pair, [0, 0]), (pair[:1], [0.2])):
        rows = scored(files([COUNT], completions), *released)["rows"]
        assert [row["components"]["length"] for row in rows] == bonuses


SPELLINGS = [
    ("OCR", "the red door"),
    ("ocr", "the red door"),
    ("Free-form", "the red door"),
    ("free form", "the red door"),
    ("free_form", "the red door"),
    ("option_free", "the red door"),
    ("Option-Free", "the red door"),
    ("NUMERICAL", "3"),
    (" regression ", "3"),
    ("Multiple-Choice", "B"),
    ("multiple_choice", "B"),
    ("multiple  choice", "B"),
]


@pytest.mark.parametrize("kind, truth", SPELLINGS)
def test_spellings_of_types(files, kind, truth):
    item = {"id": 1, "problem_type": kind, "solution": truth, "options": []}
    if truth == "B":
        item["options"] = ["A. left", "B. right"]
    (row,) = scored(files([item], [{"id": 1, "completion": said(truth)}]))["rows"]
    assert row["total"] == pytest.approx(2) and row["id"] == 1


MAPS = [
    MAP,
    json.dumps(MAP),
    str(MAP),
    {**MAP, "sofa": None, "bed": [1, 1]},
    {"Chairs": [[2, 5], [4, 4]], "lamp": [[6, 8]], "bed": [[1, 1]]},
]


@pytest.mark.parametrize("true_map", MAPS)
@pytest.mark.parametrize("key", ["cognitive_map", "map"])
def test_spellings_of_maps(files, true_map, key):
    item = {**CHOICE, "cognitive_map": None, key: true_map}
    (row,) = scored(files([item], [{"id": "c", "completion": said("B", MAP)}]))["rows"]
    assert row["components"]["map"] == pytest.approx(1)


@pytest.mark.parametrize("true_map", [None, {}, "", {"sofa": []}, "null"])
def test_rows_without_a_map(files, true_map):
    item = {**CHOICE, "cognitive_map": true_map}
    (row,) = scored(files([item], [{"id": "c", "completion": said("B")}]))["rows"]
    assert row["components"]["map"] == 0.0 and row["failures"] == []


def test_our_own_rows_and_numbers_as_numbers(files):
    own = {
        "id": "r",
        "problem_type": "numerical",
        "ground_truth": "2.5",
        "options": None,
        "question": "How far is it (in meters)?",
        "categories": ["bed"],
        "map": MAP,
    }
    theirs = {
        "id": 7,
        "problem_type": "numerical",
        "solution": 2.5,
        "problem": "How far is it (in meters)?",
    }
    completions = [
        {"id": "r", "completion": said("250 cm", MAP)},
        {"id": "7", "completion": said("250 cm")},
    ]
    rows = scored(files([own, theirs], completions))["rows"]
    assert [row["total"] for row in rows] == [3, 2]
    assert (
        rows[0]["total"]
        == score(completions[0]["completion"], own, get_preset("ours")).total
    )


def test_items_without_a_completion_are_reported(files, capsys):
    items = [{**COUNT, "id": k} for k in range(8)]
    result = scored(files(items, [{"id": 0, "completion": said("10")}]))
    assert result["unanswered"] == list(range(1, 8))
    assert "7 items without a completion: 1, 2, 3, 4, 5 ..." in capsys.readouterr().out


def test_the_summary_is_a_table_per_type(files, capsys):
    completions = [{"id": k, "completion": said("10")} for k in "nc"]
    scored(files([CHOICE, COUNT], completions))
    table = capsys.readouterr().out.splitlines()
    assert table[0].split()[:2] == ["ours", "rows"]
    assert [line[:15].strip() for line in table[1:4]] == [
        "numerical",
        "multiple choice",
        "all",
    ]
    assert table[1].split()[1:] == ["1", "1.000", "1.000", "0.000", "0.000", "2.000"]


def test_blank_lines_and_odd_separators_inside_texts(files):
    item = {"id": "x", "problem_type": "ocr", "solution": "red\u2028door"}
    row = {"id": "x", "completion": said("red\u2028door")}
    texts = [f"\n{json.dumps(value, ensure_ascii=False)}\n\n" for value in (item, row)]
    assert scored(files(*texts))["rows"][0]["total"] == 2


ONE = [{"id": "n", "completion": said("10")}]
MISTAKES = [
    # items, completions, kind, facts
    (
        [COUNT, CHOICE, COUNT],
        ONE,
        "repeated-question",
        ("items.jsonl line 3: question n", "line 1"),
    ),
    (
        [COUNT],
        [*ONE, {"id": "z", "completion": ""}],
        "no-question",
        ("completions.jsonl line 2: completion of z", "items.jsonl"),
    ),
    ([COUNT], [{"id": "n"}], "completion-missing", ("completions.jsonl line 1",)),
    ([COUNT], [{"completion": ""}], "id-missing", ("completions.jsonl line 1",)),
    ([COUNT], [{"id": "n", "completion": 3}], "completion-malformed", ("line 1", "3")),
    ([COUNT], [{"id": True, "completion": ""}], "id-malformed", ("line 1", "True")),
    (
        [COUNT],
        [{**ONE[0], "completion_tokens": 1.5}],
        "completion-tokens-malformed",
        ("completion_tokens", "1.5"),
    ),
    (
        [COUNT],
        [{**ONE[0], "completion_tokens": -1}],
        "completion-tokens-malformed",
        ("completion_tokens", "-1"),
    ),
    (
        [{"id": "n", "solution": "3"}],
        ONE,
        "problem-type-missing",
        ("items.jsonl line 1: problem_type",),
    ),
    (
        [{"id": "n", "problem_type": "ocr"}],
        ONE,
        "solution-missing",
        ("items.jsonl line 1: solution or ground_truth",),
    ),
    (
        [{**COUNT, "problem_type": "riddle"}],
        ONE,
        "unknown-problem-type",
        ("line 1", "riddle"),
    ),
    (
        [{**COUNT, "solution": "many"}],
        ONE,
        "ground-truth-not-a-number",
        ("line 1: question n", "no_number"),
    ),
    (
        [{**COUNT, "solution": "<answer>3"}],
        ONE,
        "solution-tags",
        ("line 1: solution", "'<answer>3'"),
    ),
    (
        [{**COUNT, "solution": "<answer>3</answer><answer>4</answer>"}],
        ONE,
        "solution-tags",
        ("line 1: solution",),
    ),
    (
        [{**CHOICE, "solution": "C"}],
        ONE,
        "ground-truth-not-an-option",
        ("line 1: question c", "'C'"),
    ),
    ([{**CHOICE, "options": {"A": "left"}}], ONE, "options-malformed", ("line 1",)),
    (
        [{**CHOICE, "cognitive_map": {"bed": [[1, 10]]}}],
        ONE,
        "cognitive-map-malformed",
        ("map_off_grid",),
    ),
    (
        [{**CHOICE, "cognitive_map": {"bed": [[1.5, 1]]}}],
        ONE,
        "cognitive-map-malformed",
        ("map_unreadable",),
    ),
    (
        [{**CHOICE, "cognitive_map": [[1, 1]]}],
        ONE,
        "cognitive-map-malformed",
        ("map_unreadable",),
    ),
    ('{"id": "n"', ONE, "artifacts.not-json", ("items.jsonl line 1",)),
    ('{"id": "n"}\n[1]\n', ONE, "problem-type-missing", ("items.jsonl line 1",)),
    ("[1]\n", ONE, "artifacts.no-object", ("items.jsonl line 1", "[1]")),
]


@pytest.mark.parametrize("items, completions, kind, facts", MISTAKES)
def test_each_mistake_is_one_line_with_its_place(
    files, capsys, items, completions, kind, facts
):
    arguments = files(items, completions)
    with refused(kind if "." in kind else f"rewards.{kind}"):
        score_files(arguments[2], arguments[4], get_preset("ours"))
    line = error_line(capsys, arguments)
    for fact in facts:
        assert fact in line


def test_files_and_presets_that_are_not_there(files, capsys, tmp_path):
    arguments = files([COUNT], ONE)
    line = error_line(capsys, [*arguments, "--preset", "nice"])
    assert "vsgrpo-vanilla, ours" in line
    paths, ours = (arguments[2], arguments[4]), get_preset("ours")
    (tmp_path / "items.jsonl").unlink()
    with refused("artifacts.missing", says="items.jsonl"):
        score_files(*paths, ours)
    (tmp_path / "items.jsonl").write_bytes(b'{"id": "\xff"}')
    with refused("artifacts.not-json", says="items.jsonl"):
        score_files(*paths, ours)
    assert "items.jsonl" in error_line(capsys, arguments)
