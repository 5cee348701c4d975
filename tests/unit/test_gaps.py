"""Differences of scores with known causes: the shares find them and add up."""

import itertools

import matplotlib.pyplot as plt
import numpy as np
import pytest
from support import refused

from spacer_lib.artifacts import read_json, write_json, write_jsonl
from spacer_lib.benchmarks import held_out, named, rules_of
from spacer_lib.cli import main
from spacer_lib.evaluation import gaps
from spacer_lib.evaluation.floors import Floor
from spacer_lib.evaluation.predictions import record
from spacer_lib.evaluation.replies import Reply
from spacer_lib.evaluation.report import Run, read_run
from spacer_lib.evaluation.runner import run
from spacer_lib.language.asking import AskSettings
from spacer_lib.language.prompts import PromptStyle, Template
from spacer_lib.pictures.evaluation_plots import gap_waterfall
from spacer_lib.rooms.frames import Sampler, VideoSettings

VSI = named("vsi")
VIDEO = {
    "frames": 32,
    "size": None,
    "max_pixels": 351232,
    "as_images": False,
    "shuffle": None,
}
HEADER = {
    "benchmark": "vsi",
    "extraction": "strict",
    "condition": "own",
    "settings": {"mode": "direct", "video": VIDEO, "temperature": 0.0, "seed": 0},
    "backend": {"backend": "transformers", "weights": "w", "dtype": "torch.bfloat16"},
    "rows": {"count": 60, "sha256": "r"},
}


def questions():
    """Forty counts and twenty choices about twenty rooms."""
    rows = []
    for i in range(60):
        choice = i % 3 == 0
        rows.append(
            {
                "id": str(i),
                "scene_name": f"scene{i % 20:04d}_00",
                "question": "?",
                "question_type": "object_rel_distance" if choice else "object_counting",
                "problem_type": "multiple choice" if choice else "numerical",
                "options": ["A. bed", "B. sofa"] if choice else None,
                "ground_truth": "B" if choice else "4",
            }
        )
    return rows


def made(name, say, **header):
    """A run in which each row's text is ``say(number, row)``."""
    rule = rules_of(VSI)["strict"]
    records = [record(r, say(i, r), rule) for i, r in enumerate(questions())]
    return Run(name, [records], {**HEADER, **header})


def side(run, extraction="strict", aggregate="macro"):
    return gaps.Side(run, extraction, aggregate)


def shares(gap):
    return gap.table.set_index("cause")["share"]


def right(i, row):
    return row["ground_truth"]


def often(i, row):
    """Right on two rows of three."""
    return row["ground_truth"] if i % 9 < 6 else "C"


def tagged(i, row):
    return f"<think>2 or A</think><answer>{often(i, row)}</answer>"


RUNS = {
    "right": made("right", right),
    "often": made("often", often),
    "tagged": made("tagged", tagged, settings={**HEADER["settings"], "mode": "think"}),
}


@pytest.mark.parametrize(
    ("first", "second"), [*itertools.product(RUNS, repeat=2)], ids=lambda name: name
)
@pytest.mark.parametrize("rules", [("strict", "vlmevalkit"), ("easi", "vlmevalkit")])
def test_the_parts_are_the_whole_and_turn_with_the_runs(first, second, rules):
    a = side(RUNS[first], rules[0], "macro")
    b = side(RUNS[second], rules[1], "micro")
    there, back = gaps.explain(a, b), gaps.explain(b, a)
    found = shares(there)
    assert found.drop("total").sum() == pytest.approx(found["total"], abs=1e-12)
    assert found["total"] == pytest.approx(there.after - there.before, abs=1e-12)
    assert sorted(shares(back)) == pytest.approx(sorted(-found), abs=1e-12)
    for cause in ("extraction", "aggregate", "total"):
        assert shares(back)[cause] == pytest.approx(-found[cause], abs=1e-12)


def test_scores_are_those_of_the_runs():
    strict = rules_of(VSI)["strict"]
    rows = questions()
    scores = np.array([strict(often(i, r), r).score for i, r in enumerate(rows)])
    gap = gaps.explain(side(RUNS["often"], aggregate="micro"), side(RUNS["right"]))
    assert gap.before == pytest.approx(scores.mean())
    assert gap.after == 1


def test_a_known_cause_gets_the_whole():
    """The same texts under another rule: all of it is reading, with a sure sign."""
    run = RUNS["tagged"]
    gap = gaps.explain(side(run), side(run, "official"))
    found = gap.table.set_index("cause")
    assert list(found.index) == ["extraction", "aggregate", "total"]
    assert found.loc["extraction", "share"] == found.loc["total", "share"] < -0.5
    assert found.loc["extraction", "verdict"] == "down"
    assert found.loc["aggregate", "share"] == 0


def test_one_setting_that_differs_is_named():
    fewer = {**HEADER["settings"], "video": {**VIDEO, "frames": 8}}
    run = made("fewer", often, settings=fewer)
    gap = gaps.explain(side(RUNS["right"]), side(run))
    line = gap.table.iloc[0]
    assert (line["cause"], line["settings"]) == ("frames", "frames 32, then 8")
    assert line["share"] == pytest.approx(gap.after - gap.before) and line["high"] < 0
    assert gap.remedy is None


def test_several_settings_share_one_number_and_the_remedy_is_named():
    video = {**VIDEO, "frames": 8, "min_pixels": 100352, "sampler": {"rule": "inner"}}
    settings = {**HEADER["settings"], "video": video, "mode": "think"}
    backend = {**HEADER["backend"], "dtype": "torch.float32", "positions": "original"}
    run = made("other", often, settings=settings, backend=backend)
    gap = gaps.explain(side(RUNS["right"]), side(run))
    assert gap.table["cause"][0] == (
        "prompt + frames + sampler + pixels + positions + precision"
    )
    assert "--ask" in gap.remedy


def test_runs_between_separate_what_differs():
    video = {**VIDEO, "frames": 8}
    settings = {**HEADER["settings"], "video": video, "mode": "think"}
    run = made("other", often, settings=settings)
    between = {
        frozenset(["prompt"]): RUNS["right"].records,
        frozenset(["frames"]): run.records,
    }
    gap = gaps.explain(side(RUNS["right"]), side(run), between=between)
    found = shares(gap)
    assert found["prompt"] == pytest.approx(0, abs=1e-12)
    assert found["frames"] == pytest.approx(gap.after - gap.before, abs=1e-12)


def test_an_interaction_is_shared_evenly():
    """Only both changes together do harm: each gets half."""
    value = {frozenset("ab"): np.array([-1.0, 0.0])}
    found = gaps.shapley("ab", lambda changed: value.get(changed, np.zeros(2)))
    assert found["a"].tolist() == found["b"].tolist() == [-0.5, 0]


def test_the_interval_covers_the_share_and_uses_rooms():
    gap = gaps.explain(side(RUNS["right"]), side(RUNS["often"]))
    line = gap.table.set_index("cause").loc["asking again"]
    assert line["low"] < line["share"] < line["high"] < 0


def test_a_row_without_an_answer_stays_without_one():
    run = made("gone", lambda i, row: None if i < 30 else right(i, row))
    gap = gaps.explain(side(run), side(run, "final_answer"))
    assert gap.before == gap.after < 1


def test_the_picture_has_a_step_for_each_cause():
    gap = gaps.explain(side(RUNS["right"]), side(RUNS["tagged"], "easi", "micro"))
    figure, ax = plt.subplots()
    gap_waterfall(gap, ax)
    heights = [bar.get_height() for bar in ax.patches]
    assert heights[0] + sum(heights[1:-1]) == pytest.approx(heights[-1])
    assert len(heights) == len(gap.table) + 1
    plt.close(figure)


@pytest.mark.parametrize(
    ("kind", "change"),
    [
        ("evaluation.no-header", {"about": {}}),
        ("evaluation.gap-extraction", {"about": {**HEADER, "extraction": "x"}}),
    ],
)
def test_a_run_that_cannot_be_explained_is_refused(kind, change):
    run = Run("x", RUNS["right"].parts, **change)
    with refused(kind):
        gaps.make_side(run)


def test_other_questions_and_benchmarks_are_refused():
    half = Run("half", [RUNS["right"].records[:30]], HEADER)
    with refused("evaluation.other-questions", says="30"):
        gaps.explain(side(RUNS["right"]), side(half))
    sti = Run("sti", RUNS["right"].parts, {**HEADER, "benchmark": "sti"})
    with refused("evaluation.which-benchmark", says="sti, vsi"):
        gaps.explain(side(RUNS["right"]), side(sti))
    temp = Run("t", RUNS["right"].parts, {**HEADER, "benchmark": "tempcompass"})
    with refused("evaluation.gap-needs-data", says="--data"):
        gaps.explain(side(temp), side(temp))
    with refused("evaluation.no-such-question"):
        gaps.explain(side(half), side(half), rows=questions()[1:])


# ---------------------------------------------------------------- asking again


class Reader:
    """Right without thinking and with eight frames or more; wrong elsewhere."""

    name, batched = "reader", False

    def identity(self):
        return {"backend": "reader"}

    def ask(self, rows, settings, *, prefixes=None, blind=False):
        good = settings.style.mode == "direct" and settings.video.frames >= 8
        for i, row in enumerate(rows):
            yield i, Reply(row["ground_truth"] if good else "none", 1)


def asked(folder, settings, rows, backend=None):
    """A run of a backend and its side."""
    bench = named("held-out")
    run(bench, rows, backend or Reader(), folder, settings)
    return gaps.make_side(read_run(folder))


@pytest.fixture(scope="module")
def held(tmp_path_factory):
    return named("held-out").read(
        held_out.write(tmp_path_factory.mktemp("data"), rooms=8)
    )


def test_asking_again_makes_the_runs_between(tmp_path, held):
    few = VideoSettings(2, sampler=Sampler("inner"))
    style = PromptStyle("think", template=Template("{question}"))
    first = asked(tmp_path / "a", AskSettings("direct", VideoSettings(8)), held)
    last = asked(tmp_path / "b", AskSettings(style, few), held)
    out = tmp_path / "between"
    between = gaps.ask_again(first, last, held, Reader(), out)
    assert len(between) == 6  # prompt, frames and sampler: 2 ** 3 without both ends
    found = shares(gaps.explain(first, last, between=between))
    assert found["total"] == pytest.approx(-1)
    assert found["prompt"] == found["frames"] == pytest.approx(-0.5)
    assert found["sampler"] == 0
    header = read_json(out / "prompt_sampler" / "evaluation.json")["settings"]
    assert header["video"]["sampler"]["rule"] == "inner"
    assert header["video"]["frames"] == 8
    assert header["mode"]["template"]["text"] == "{question}"


def test_what_cannot_be_asked_again_is_refused(tmp_path, held):
    first = asked(tmp_path / "a", AskSettings("direct", VideoSettings(8)), held)
    other = Floor("majority", held)
    last = asked(tmp_path / "b", AskSettings("think", VideoSettings(2)), held, other)
    with refused("evaluation.gap-not-askable", says="backend.backend"):
        gaps.ask_again(first, last, held, Reader(), tmp_path / "c")
    last = asked(tmp_path / "d", AskSettings("think", VideoSettings(2)), held)
    with refused("evaluation.gap-not-askable", says="another backend"):
        gaps.ask_again(first, last, held, other, tmp_path / "c")


# ---------------------------------------------------------------- the command


def test_the_command_explains_two_runs_and_one_run_under_two_profiles(tmp_path, capsys):
    data = tmp_path / "data"
    held_out.write(data, rooms=6)
    ask = ["evaluate", "--benchmark", "held-out", "--data", str(data), "--floor"]
    folders = [str(tmp_path / kind) for kind in ("majority", "random")]
    for kind, folder in zip(("majority", "random"), folders, strict=True):
        assert main([*ask, kind, "--out", folder]) == 0
    out = tmp_path / "gap"
    assert main(["explain-gap", *folders, "--out", str(out)]) == 0
    made = read_json(out / "gap.json")
    parts = {line["cause"]: line["share"] for line in made["shares"]}
    scores = [read_json(f"{folder}/scores.json")["overall"] for folder in folders]
    assert parts["total"] == pytest.approx(scores[1] - scores[0], abs=1e-12)
    assert parts["model"] == pytest.approx(parts["total"], abs=1e-12)
    assert (out / "gap.png").stat().st_size and (out / "gap.csv").exists()
    capsys.readouterr()
    two = ["--profile", "spacer", "--profile", "vlmevalkit"]
    assert main(["explain-gap", folders[0], *two, "--out", str(out)]) == 0
    text = capsys.readouterr().out
    assert "majority (spacer_released, macro)" in text and "vlmevalkit, micro" in text


def test_a_log_of_another_program_is_explained(tmp_path, capsys):
    """lmms-eval's texts beside a run: the same text on every second question."""
    data, run_folder = tmp_path / "data", tmp_path / "run"
    held_out.write(data, rooms=6)
    given = ["--benchmark", "held-out", "--data", str(data)]
    ask = ["evaluate", *given, "--floor", "majority", "--out", str(run_folder)]
    assert main(ask) == 0
    ours = read_run(run_folder).records
    log = [
        {
            "doc_id": number,
            "target": record["answer"],
            "filtered_resps": record["prediction" if number % 2 else "answer"],
            "input": record["question"],
        }
        for number, record in enumerate(ours)
    ]
    write_jsonl(tmp_path / "samples_vsibench.jsonl", log)
    scored = [
        "score",
        *given,
        "--predictions",
        str(tmp_path / "samples_vsibench.jsonl"),
    ]
    elsewhere = str(tmp_path / "elsewhere")
    assert main([*scored, "--profile", "lmms_eval", "--out", elsewhere]) == 0
    out = tmp_path / "gap"
    capsys.readouterr()
    assert main(["explain-gap", elsewhere, str(run_folder), "--out", str(out)]) == 0
    made = read_json(out / "gap.json")
    parts = {line["cause"]: line["share"] for line in made["shares"]}
    assert parts["asked elsewhere"] < -0.1
    total = parts.pop("total")
    assert sum(parts.values()) == pytest.approx(total, abs=1e-12)
    assert total == pytest.approx(made["after"]["score"] - made["before"]["score"])
    assert "samples_vsibench.jsonl, then" in capsys.readouterr().out
    sides = [gaps.make_side(read_run(path)) for path in (elsewhere, run_folder)]
    with refused("evaluation.gap-not-askable", says="made elsewhere"):
        rows = named("held-out").read(data)
        gaps.ask_again(*sides, rows, Floor("majority", rows), tmp_path / "between")
    assert main([*scored, "--out", str(run_folder)]) == 2  # it is a run of ours
    assert "a folder of its own" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "says"),
    [([], "two runs"), (["x", "y"], "two runs"), (["--ask"], "--model")],
)
def test_the_command_refuses_half_a_question(tmp_path, capsys, options, says):
    write_jsonl(tmp_path / "predictions.jsonl", RUNS["right"].records)
    write_json(tmp_path / "evaluation.json", HEADER)
    given = [
        str(tmp_path),
        *options,
        *([str(tmp_path)] if options == ["--ask"] else []),
    ]
    assert main(["explain-gap", *given]) != 0
    assert says in capsys.readouterr().err
