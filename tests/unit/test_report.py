"""``spacer report``: tables and figures of runs, against numbers derived by hand."""

import csv
import json

import numpy as np
import pandas as pd
import pytest
from support import refused

from spacer_lib import cli
from spacer_lib.artifacts import read_json, write_json, write_jsonl
from spacer_lib.benchmarks.rules import strict
from spacer_lib.evaluation.predictions import record
from spacer_lib.evaluation.report import (
    Run,
    make_report,
    pool_runs,
    read_run,
    write_report,
)
from spacer_lib.evaluation.statistics import compare, pooled, summarize
from spacer_lib.pictures.figures import report_figures

ROOMS, TASKS = 12, ("object_counting", "object_rel_distance", "route_planning")


def predictions(share, seed=0, missing=()):
    """One question of each task a room; right with a probability."""
    rng, made = np.random.default_rng(seed), []
    for number in range(ROOMS * len(TASKS)):
        room, task = divmod(number, len(TASKS))
        dataset = "scannet" if room % 2 else "arkitscenes"
        right = bool(rng.random() < share)
        gone = number in missing
        made.append(
            {
                "id": str(number),
                "scene_name": f"scene{room:04}_00",
                "dataset": dataset,
                "question_type": TASKS[task],
                "prediction": "x",
                "answer": "A",
                "groups": {"source": "ScanNet" if room % 2 else "not ScanNet"},
                "extracted": None,
                "score": float(right and not gone),
                "failure": f"missing_media: {room}.mp4"
                if gone
                else None
                if right
                else "no_number",
            }
        )
    return made


@pytest.fixture
def runs(tmp_path):
    """Folders as an evaluation leaves them: a base, three seeds, two floors."""

    def write(name, records, **header):
        write_jsonl(tmp_path / name / "predictions.jsonl", records)
        about = {"benchmark": "vsi", "condition": "own", **header}
        write_json(tmp_path / name / "evaluation.json", about)

    write("base", predictions(0.3, 1, missing=(4, 7)))
    for seed in range(3):
        write(f"s{seed}", predictions(0.9, 10 + seed))
    write("blind", predictions(0.2, 20), condition="blind")
    floor = {"backend": "floor", "floor": "majority of other rooms"}
    write("chance", predictions(0.25, 21), backend=floor)
    return tmp_path


def reported(folder, *arguments):
    out = folder / "out"
    json_file = folder / "out.json"
    words = ["report", *map(str, arguments), "--out", str(out)]
    assert cli.main([*words, "--json", str(json_file)]) == 0
    return out, read_json(json_file)


def everything(folder):
    seeds = ",".join(str(folder / f"s{seed}") for seed in range(3))
    return reported(
        folder,
        *(folder / name for name in ("base", "blind", "chance")),
        "--pool",
        f"grpo & co_={seeds}",
        "--reference",
        folder / "base",
    )


def test_scores_of_every_run_and_task(runs):
    out, result = everything(runs)
    assert result["runs"] == {
        "base": {"floor": False, "seeds": 1},
        "blind": {"floor": True, "seeds": 1},
        "chance": {"floor": True, "seeds": 1},
        "grpo & co_": {"floor": False, "seeds": 3},
    }
    table = pd.read_csv(out / "scores.csv").set_index(["run", "level", "name"])
    for name in ("base", "blind", "chance"):
        records = read_run(runs / name).parts[0]
        expected = summarize(records).set_index(["level", "name"])
        for key in (("kind", TASKS[0]), ("macro", "macro"), ("overall", "overall")):
            line = table.loc[(name, *key)]
            columns = ["n", "score", "score_low", "score_high", "failures", "wrong"]
            assert line[columns].to_list() == pytest.approx(
                expected.loc[key, columns].to_list()
            )
    base = table.loc[("base", "overall", "overall")]
    scores = [r["score"] for r in read_run(runs / "base").parts[0]]
    assert base["score"] == pytest.approx(np.mean(scores))
    assert base["failures"] == scores.count(0)  # whatever was wrong was not read
    # Pooled: the mean of the seeds' scores, rooms drawn with all seeds together.
    parts = [read_run(runs / f"s{seed}").parts[0] for seed in range(3)]
    line = table.loc[("grpo & co_", "kind", TASKS[1])]
    of_seeds = [
        np.mean([r["score"] for r in part if r["question_type"] == TASKS[1]])
        for part in parts
    ]
    assert line["score"] == pytest.approx(np.mean(of_seeds))
    assert line["n"] == 3 * ROOMS and line["spaces"] == ROOMS and line["seeds"] == 3


def test_map_hits_stand_beside_the_scores_of_runs_that_draw_maps(runs):
    drawn = [
        {**made, "map_hits": number % 3, "map_total": 2}
        for number, made in enumerate(predictions(0.5, 30))
    ]
    write_jsonl(runs / "drawn" / "predictions.jsonl", drawn)
    about = {"benchmark": "vsi", "condition": "own"}
    write_json(runs / "drawn" / "evaluation.json", about)
    out, _ = reported(runs, runs / "drawn", runs / "chance")
    table = pd.read_csv(out / "scores.csv").set_index(["run", "level", "name"])
    columns = ["hits", "hits_low", "hits_high"]
    line = table.loc[("drawn", "overall", "overall"), columns]
    expected = summarize(drawn).set_index("level").loc["overall", columns]
    assert line.to_list() == pytest.approx(expected.to_list())
    assert line.hits == 0.5
    assert table.loc[("chance", "overall", "overall"), columns].isna().all()


def test_how_the_score_table_is_shown(runs):
    out, _ = everything(runs)
    lines = (out / "scores.md").read_text().splitlines()
    assert lines[0] == (
        "| task | n | base | blind | chance | grpo & co_ (3 seeds) | strongest floor "
        "| which floor |"
    )
    assert lines[1] == "| --- |" + " ---: |" * 7
    cells = {line.split("|")[1].strip(): line.split("|")[2:-1] for line in lines[2:]}
    assert list(cells) == [*TASKS, "macro*", "micro"]
    assert {cell[0].strip() for name, cell in cells.items() if name in TASKS} == {"12"}
    table = pd.read_csv(out / "scores.csv").set_index(["run", "level", "name"])
    line = 100 * table.loc[("base", "macro", "macro"), "score":"score_high"]
    mean, low, high = (f"{value:.1f}" for value in line.astype(float))
    assert cells["macro*"][1].strip() == f"{mean} [{low}, {high}]†"  # twelve rooms
    text = (out / "report.md").read_text()
    assert text.startswith("# VSI-Bench\n\n![scores](scores.svg)\n\n![deltas](deltas.s")
    assert "† of fewer than 20 rooms or videos: may be too narrow" in text
    assert "floors: blind, chance, strongest floor" in text and "\n\n\n" not in text


def test_the_strongest_floor_of_each_task_and_every_run_against_it(runs):
    out, _ = everything(runs)
    scores = pd.read_csv(out / "scores.csv").set_index(["run", "level", "name"])
    against = pd.read_csv(out / "floors.csv").set_index(["run", "level", "name"])
    assert set(against.index.get_level_values("run")) == {"base", "grpo & co_"}
    for task in TASKS:
        key = ("kind", task)
        both = {name: scores.loc[(name, *key), "score"] for name in ("blind", "chance")}
        line = against.loc[("grpo & co_", *key)]
        assert line["strongest"] == max(both, key=both.get)
        assert line["before"] == pytest.approx(max(both.values()))
        assert scores.loc[("strongest floor", *key), "score"] == line["before"]
        run = scores.loc[("grpo & co_", *key), "score"]
        assert line["delta"] == pytest.approx(run - line["before"])
        assert line["spaces"] == ROOMS
    assert against.loc[("grpo & co_", "macro", "macro"), "verdict"] == "up"
    assert against.loc[("base", "macro", "macro"), "verdict"] == "not distinguishable"
    shown = (out / "floors.md").read_text()
    assert shown.startswith("| name | strongest floor | strongest |")


def test_floors_are_counted_where_no_run_has_them(tmp_path):
    rows = []
    for room in range(8):
        for asked, truth in (("chair", "4"), ("sofa", "1")):
            row = {
                "id": f"{room} {asked}",
                "scene_name": f"scene{room:04}_00",
                "question_type": TASKS[0],
                "problem_type": "numerical",
                "question": f"How many {asked}(s) are in this room?",
                "options": None,
                "ground_truth": truth,
            }
            rows.append(record(row, truth if room else "9", strict))
    made = make_report([Run("mine", [rows])], benchmark="vsi")
    table = made.tables["floors"].tidy.set_index("level").loc["kind"]
    assert table["strongest"] == "category of other rooms" and table["before"] == 1
    assert table["after"] == 7 / 8
    # A floor that was counted on training rows stands for all counted ones.
    condition = "majority of training rows"
    trained = [{**row, "condition": condition, "score": 0.5} for row in rows]
    made = make_report([Run("mine", [rows]), Run("major", [trained])], benchmark="vsi")
    table = made.tables["floors"].tidy.set_index("level").loc["kind"]
    assert (table["strongest"], table["before"]) == ("major", 0.5)


def test_differences_are_paired_and_said_in_words(runs):
    out, _ = everything(runs)
    deltas = pd.read_csv(out / "deltas.csv").set_index(["level", "name"])
    assert set(deltas["run"]) == {"grpo & co_"}  # floors are no candidates
    base = read_run(runs / "base").parts[0]
    seeds = {seed: read_run(runs / f"s{seed}").parts[0] for seed in range(3)}
    expected = compare(pooled({seed: base for seed in seeds}), pooled(seeds))
    expected = expected.set_index(["level", "name", "measure"])
    columns = ["n", "before", "after", "delta", "low", "high"]
    for key in (("kind", TASKS[2]), ("macro", "macro"), ("overall", "overall")):
        line = expected.loc[(*key, "score")]
        assert deltas.loc[key, columns].to_list() == pytest.approx(line[columns])
        assert deltas.loc[key, "verdict"] == line["verdict"]
    assert deltas.loc[("macro", "macro"), "verdict"] == "up"
    shown = (out / "deltas.md").read_text()
    assert "| up |" in shown and "+" in shown


def test_a_run_against_itself_is_not_distinguishable(runs):
    twin = Run("twin", read_run(runs / "base").parts)
    made = make_report([read_run(runs / "base"), twin], reference="base")
    verdicts = made.tables["deltas"].shown["verdict"]
    assert set(verdicts) == {"not distinguishable"}
    assert set(made.tables["deltas"].shown["difference"]) == {"+0.0 [+0.0, +0.0]†"}
    backwards = make_report(
        [read_run(runs / "base"), read_run(runs / "s0")], reference="s0"
    )
    shown = backwards.tables["deltas"].shown.set_index("task")
    assert shown.loc["macro", "verdict"] == "down"


def test_groups_failures_and_missing_media(runs):
    out, result = everything(runs)
    groups = pd.read_csv(out / "groups.csv").set_index(["run", "level", "name"])
    base = read_run(runs / "base").parts[0]
    here = [r["score"] for r in base if r["groups"]["source"] == "not ScanNet"]
    line = groups.loc[("base", "source overall", "not ScanNet")]
    assert line["score"] == pytest.approx(np.mean(here)) and line["n"] == 18
    assert "| source: ScanNet, macro | 18 |" in (out / "groups.md").read_text()
    with open(out / "missing_media.csv", newline="") as file:
        assert list(csv.reader(file)) == [
            ["run", "id", "failure"],
            ["base", "4", "missing_media: 1.mp4"],
            ["base", "7", "missing_media: 2.mp4"],
        ]
    counts = {(r["run"], r["failure"]): r["rows"] for r in result["tables"]["failures"]}
    assert counts["base", "missing_media"] == 2
    wrong = sum(r["score"] == 0 for r in base)
    assert counts["base", "no_number"] == wrong - 2
    assert ("blind", "missing_media") not in counts
    assert "| missing_media | 2 | 0 |" in (out / "failures.md").read_text()


def test_figures_in_both_formats(runs):
    out, result = everything(runs)
    for name in ("scores", "deltas"):
        svg = (out / f"{name}.svg").read_text()
        assert svg.startswith("<?xml") and "95% interval" in svg
        assert (out / f"{name}.pdf").read_bytes().startswith(b"%PDF")
    svg = (out / "scores.svg").read_text()
    # The floors are named as such, beside the runs.
    assert all(f">{name}<" in svg for name in ("blind", "chance", "base", "macro"))
    assert "grpo &amp; co_ minus base" in (out / "deltas.svg").read_text()
    assert {path.rsplit(".", 1)[1] for path in result["paths"]} == {
        "svg",
        "pdf",
        "md",
        "tex",
        "csv",
    }
    again, _ = everything(runs)
    assert (again / "scores.svg").read_text() == svg  # same data, same bytes


def test_more_runs_than_colours(runs, tmp_path):
    parts = read_run(runs / "s0").parts
    many = [Run(f"run{i}", parts) for i in range(8)]
    made = make_report(many, benchmark="vsi", reference="run0")
    paths = report_figures(made, tmp_path / "many")
    assert [path.name for path in paths] == [
        "scores.svg",
        "scores.pdf",
        "deltas.svg",
        "deltas.pdf",
    ]
    svg = paths[0].read_text()
    assert all(f">run{i}<" in svg for i in range(8))


def test_floors_alone_and_one_room(runs, tmp_path):
    made = make_report([read_run(runs / "blind")])
    assert report_figures(made, tmp_path) == [] and "deltas" not in made.tables
    one = [r for r in predictions(0.5) if r["scene_name"] == "scene0001_00"]
    made = make_report([Run("one", [one])], benchmark="VSI-Bench")
    cells = made.tables["scores"].shown["one"]
    assert all("[" not in cell for cell in cells)  # no interval of a single room
    assert len(report_figures(made, tmp_path)) == 2
    write_report(made, tmp_path)
    assert "nan" not in (tmp_path / "report.md").read_text()


@pytest.mark.parametrize(
    "about, condition, floor",
    [
        ({"condition": "own"}, None, False),
        ({"condition": "blind"}, None, True),
        ({}, "majority of training rows", True),
        ({}, None, False),
        ({"condition": "own", "backend": {"floor": "random of all"}}, None, True),
        ({"backend": "frequency"}, None, False),
        ({"condition": "other"}, None, False),
        ({"condition": "random_map"}, None, False),
        ({"backend": {"floor": "strongest of other rooms"}}, None, True),
    ],
)
def test_what_counts_as_a_floor(about, condition, floor):
    assert Run("x", [[{"condition": condition}]], about).floor is floor


def test_published_rows_beside_ours(runs, tmp_path):
    paper = pd.DataFrame(
        {
            "Frames": [32, 8],
            "Obj. Count": [62.1, np.nan],
            "Rel. Dist.": [30, 25.5],
            "Route Plan": [33.0, 28.4],
            "Avg": [40.04, 30.0],
        },
        index=["GPT | 4", "chance_"],
    )
    run = read_run(runs / "base")
    made = make_report([run], published={"table9": paper})
    shown = made.tables["published"].shown.set_index("model")
    assert list(shown.columns) == ["source", *TASKS, "overall"]
    assert shown.loc["GPT | 4"].to_list() == ["table9", "62.1", "30.0", "33.0", "40.0"]
    assert shown.loc["chance_", TASKS[0]] == "–"
    macro = np.mean(
        [
            np.mean([r["score"] for r in run.records if r["question_type"] == task])
            for task in TASKS
        ]
    )
    assert shown.loc["base", ["source", "overall"]].to_list() == [
        "ours",
        f"{100 * macro:.1f}",
    ]
    write_report(made, tmp_path)
    assert r"| GPT \| 4 | table9 | 62.1 |" in (tmp_path / "published.md").read_text()
    assert r"chance\_ & table9 & --" in (tmp_path / "published.tex").read_text()
    whole = pd.DataFrame({"VSI-Bench": [45.6], "Frames": [32]}, ["S"])
    made = make_report([run], published={"one": paper, "two": whole})
    shown = made.tables["published"].shown.set_index("model")
    assert shown.loc["S"].to_list() == ["two", "–", "–", "–", "45.6"]
    made = make_report([run], published={"two": whole})
    assert list(made.tables["published"].shown) == ["model", "source", "overall"]
    with refused("evaluation.no-column-of-tasks", says="Tokens"):
        make_report([run], published={"x": pd.DataFrame({"Tokens": [1.0]})})


def test_the_papers_own_tables_beside_ours(runs):
    pytest.importorskip("spacer_lib.published", reason="the papers' tables are absent")
    out, _ = reported(runs, runs / "base", "--published", "spatial_r1_table1")
    lines = (out / "published.csv").read_text().splitlines()
    assert len(lines) > 10 and lines[1].startswith("base,ours,")


def test_only_predictions_are_needed(tmp_path, capsys):
    write_jsonl(tmp_path / "a" / "predictions.jsonl", predictions(0.5))
    out, result = reported(tmp_path, tmp_path / "a", "--benchmark", "vsi")
    assert result["benchmark"] == "vsi" and "deltas" not in result["tables"]
    assert not (out / "deltas.md").exists()
    named = f"first={tmp_path}/a", f"second={tmp_path}/a/predictions.jsonl"
    _, result = reported(tmp_path, *named, "--benchmark", "vsi", "--reference", "first")
    assert list(result["runs"]) == ["first", "second"]


def test_one_line_for_a_mistake(runs, capsys):
    def said(*arguments):
        out = "--out", str(runs / "out")
        assert cli.main(["report", *map(str, arguments), *out]) == 2
        error = capsys.readouterr().err
        assert error.count("\n") == 1
        return error

    base, other = runs / "base", runs / "other"
    assert "runs: got none" in said()
    assert "--pool: got x=; expected NAME=RUN,RUN" in said("--pool", "x=")
    assert "runs: got two named base" in said(base, base)
    assert "reference: got s9; expected base" in said(base, "--reference", "s9")
    assert "nowhere/predictions.jsonl is missing" in said(runs / "nowhere")
    write_jsonl(other / "predictions.jsonl", [{"id": 1, "prediction": "A"}])
    assert "line 1: scene_name is missing" in said(other)
    write_jsonl(other / "predictions.jsonl", predictions(0.5)[:5])
    assert "got none is named; expected one" in said(other)
    write_json(other / "evaluation.json", {"benchmark": "vsi-debiased"})
    assert "benchmark of the runs: got vsi, vsi-debiased" in said(base, other)
    other_than = "questions of other: got 5, 5 of them also in base; expected the same"
    assert f"{other_than} 36" in said(base, other, "--benchmark", "vsi")
    assert other_than in said("--pool", f"x={base},{other}", "--benchmark", "vsi")
    write_jsonl(other / "predictions.jsonl", predictions(0.5)[:5] * 2)
    assert "questions of other: got 10, 5 of them" in said(other)
    two = f"two={base},{runs}/s0"
    three = "three=" + ",".join(str(runs / f"s{seed}") for seed in range(3))
    error = said("--pool", two, "--pool", three, "--reference", "two")
    assert "three against two: got 3 and 2 seeds" in error


def test_seeds_of_both_sides_are_paired_in_order(runs):
    first = pool_runs("a", [read_run(runs / f"s{seed}") for seed in (0, 1)])
    second = pool_runs("b", [read_run(runs / f"s{seed}") for seed in (1, 0)])
    made = make_report([first, second], reference="a")
    delta = made.tables["deltas"].tidy.set_index("level").loc["overall"]
    assert delta["delta"] == pytest.approx(0) and delta["n"] == 2 * 36
    assert json.loads(json.dumps(first.about))["benchmark"] == "vsi"
