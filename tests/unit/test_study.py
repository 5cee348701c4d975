"""Studies: from YAML to arms, each trained once, pooled and put in a table."""

import dataclasses
import json

import pytest
import torch
from support import refused

from spacer_lib import study
from spacer_lib.evaluation import backends
from spacer_lib.evaluation.floors import floors
from spacer_lib.evaluation.statistics import MAP_SCORES, summarize
from spacer_lib.questions.generators import task_kind
from spacer_lib.study import load_study, pool, run_study, study_names, study_table
from spacer_lib.tiny import model as tiny
from spacer_lib.tiny.curriculum import DEMONSTRATED, SEEDS, draw_rows
from spacer_lib.tiny.warmstart import corpus
from spacer_lib.training.data import training_rows
from spacer_lib.training.recipe import load_config


def prediction(number, score, hits=0):
    """What ``evaluate`` says of one room's question, as far as tables look at it."""
    return {
        "id": f"q{number}",
        "scene_name": f"room{number}_00",
        "score": score,
        "question_type": "object_counting",
        "failure": None,
        "map_failure": None,
        "map_hits": hits,
        "map_total": 4,
        **dict.fromkeys(MAP_SCORES, 0.0),
    }


def written(folder, text):
    path = folder / "own.yaml"
    path.write_text(text, encoding="utf-8")
    return path


# ---------------------------------------------------------------- from YAML

TRAINED = "raised"  # the camera to train on


@pytest.mark.parametrize("name", study_names())
def test_every_shipped_study_names_recipes_and_settings_that_exist(name):
    found = load_study(name)
    assert len(found.seeds) >= 3 and len(found.arms) > 1
    assert found.reference in found.arms
    for arm in found.arms:
        start, recipe = study._recipes(found, arm, {})
        assert recipe.view == TRAINED and recipe.rooms == "grpo"
        assert TRAINED not in found.views
        if start is not None:
            # Demonstrations: on the known camera, in other rooms, in the arm's form.
            assert (start.view, start.rooms) == (DEMONSTRATED, "form")
            assert start.method == "sft"
            assert start.prompt_mode == recipe.prompt_mode


def test_the_default_study_is_the_one_of_the_readme():
    found = load_study()
    assert list(found.arms) == ["map", "no_map", "paper_map", "random", "sft"]
    assert found.seeds == (0, 1, 2) and found.questions == 630
    four = load_study("map", arms=["map", "paper_map"], seeds=[5], questions=12)
    assert list(four.arms) == ["map", "paper_map"]
    assert (four.seeds, four.questions) == ((5,), 12)


def test_the_form_of_each_mode_is_judged_as_such():
    found = load_study("modes")
    recipes = {arm: study._recipes(found, arm, {})[1] for arm in found.arms}
    assert {arm: r.reward.shape for arm, r in recipes.items()} == {
        "think": "think",
        "observe": "observe",
        "vanilla": "vanilla",
    }
    assert {r.reward.map_gate for r in recipes.values()} == {"off"}
    assert recipes["vanilla"].reward.format_weight == 0
    assert recipes["think"].reward.format_weight == 1


RIGHT = {"recipe": "tiny", "reference": "a", "arms": "{a: {}}"}


@pytest.mark.parametrize(
    "change, kind, says",
    [
        ({"recipe": None}, "settings.missing-key", "recipe"),
        ({"arms": None}, "settings.missing-key", "arms"),
        ({"arms": "{a: 3}"}, "settings.wrong-type", "arms.a"),
        ({"arms": "{a: {sett: {}}}"}, "settings.unknown-key", "arms.a.sett"),
        (
            {"arms": "{a: {start: {sett: {}}}}"},
            "settings.unknown-key",
            "arms.a.start.sett",
        ),
        ({"reference": "b"}, "study.unknown-arm", "got b"),
        ({"default_arms": "[c]"}, "study.unknown-arm", "got c"),
        ({"seeds": "3"}, "settings.wrong-type", "seeds"),
        ({"seeds": "[x]"}, "settings.wrong-type", "x"),
        ({"seeds": "[-1]"}, "study.seeds", "-1"),
        ({"seeds": "[]"}, "study.seeds", "()"),
        ({"questions": "1"}, "study.questions", "got 1"),
        ({"views": "[turns]"}, "study.view", "turn?"),
    ],
)
def test_a_wrong_study_is_refused(tmp_path, change, kind, says):
    lines = [f"{k}: {v}" for k, v in {**RIGHT, **change}.items() if v is not None]
    with refused(kind, says=says):
        load_study(written(tmp_path, "\n".join(lines)))


@pytest.mark.parametrize(
    "text, kind",
    [("[1, 2]", "settings.no-mapping"), ("a: [", "settings.not-yaml")],
)
def test_a_file_that_is_no_study_is_named(tmp_path, text, kind):
    with refused(kind, says="own.yaml"):
        load_study(written(tmp_path, text))


def test_unknown_studies_and_arms_are_named():
    with refused("settings.no-such-file", says="map?"):
        load_study("maps")
    with refused("study.unknown-arm", says="map?"):
        load_study("map", arms=["maps"])


def test_a_misspelt_setting_of_the_last_arm_stops_before_any_run(tmp_path, monkeypatch):
    monkeypatch.setattr(study, "launch", None)
    path = written(
        tmp_path,
        "recipe: tiny\nreference: a\narms: {a: {}, b: {set: {learnin_rate: 1.0}}}",
    )
    with refused("settings.unknown-key", says="learning_rate"):
        run_study(tmp_path / "out", load_study(path))
    with refused("settings.no-value", says="max_steps"):
        run_study(tmp_path / "out", load_study(), changes=["max_steps"])


# ---------------------------------------------------------------- the runs


@pytest.fixture(scope="module")
def start(tmp_path_factory):
    """Folder of an untrained tiny model: its answers are noise, the rest is real."""
    folder = tmp_path_factory.mktemp("start")
    tokenizer = tiny.build_tokenizer(corpus())
    torch.manual_seed(0)
    tiny.build_model(tokenizer, hidden=128, layers=1).save_pretrained(folder)
    tiny.build_processor(tokenizer).save_pretrained(folder)
    return folder


@pytest.fixture
def launched(start, monkeypatch):
    """Runs that would have been started; each "trains" to the start itself."""
    runs = []

    class Result:
        seconds, model_dir = 1.5, start

        def metrics(self):
            return [{"step": i, "reward": float(i)} for i in range(20)]

    def launch(recipe, folder, *, resume):
        assert resume
        runs.append((folder.name, recipe))
        return Result()

    monkeypatch.setattr(study, "launch", launch)
    return runs


def test_each_arm_and_seed_is_trained_once_and_resumed(
    start, launched, tmp_path, monkeypatch
):
    changes = {"model_path": str(start), "max_completion_length": 4}
    chosen = load_study("map", arms=["map", "no_map"], seeds=[0, 1], questions=6)
    chosen = dataclasses.replace(chosen, views=())
    lines = []
    made = run_study(tmp_path / "out", chosen, changes=changes, progress=lines.append)
    assert [(name, r.seed, r.reward.map_weight) for name, r in launched] == [
        ("map_seed0", 0, 8.0),
        ("map_seed1", 1, 8.0),
        ("no_map_seed0", 0, 0.0),
        ("no_map_seed1", 1, 0.0),
    ]
    content = json.loads((tmp_path / "out" / "study.json").read_text())
    assert len(lines) == len(content["runs"]) == 4
    for record in content["runs"]:
        assert record["delta"]["score"] == [0, 0, 0] and record["seconds"] == 1.5
        assert set(record["before"]["per_task"]) == set(record["delta"]["per_task"])
        assert record["training"] == {"reward": [4.5, 14.5]}  # ten steps at each end
        assert len(record["examples"]) == 3 and record["examples"][0]["question"]
    monkeypatch.setattr(backends, "respond", None)  # all answers are on disk
    again = run_study(tmp_path / "out", chosen, changes=changes)
    assert again["arms"] == made["arms"]


def test_other_cameras_are_asked_of_every_model(start, launched, tmp_path, monkeypatch):
    changes = {"model_path": str(start), "max_completion_length": 4}
    path = written(
        tmp_path,
        "recipe: tiny\nreference: a\nviews: [turn]\narms: {a: {}, b: {}}\n"
        "seeds: [0, 1]\nquestions: 4",
    )
    asked = []
    evaluate = study.evaluate

    def counted(model, processor, rows, *rest, out_path, **options):
        asked.append((rows[0]["video"].split("/")[2], out_path.parent.name))
        return evaluate(model, processor, rows, *rest, out_path=out_path, **options)

    monkeypatch.setattr(study, "evaluate", counted)
    made = run_study(tmp_path / "out", load_study(path), changes=changes)
    after = [(view, name) for view, name in asked if name != "out"]
    assert sorted(after) == sorted(
        (view, f"{arm}_seed{seed}")
        for view in (TRAINED, DEMONSTRATED)
        for arm in "ab"
        for seed in (0, 1)
    )
    assert list(made["views"]) == [DEMONSTRATED]
    elsewhere = made["views"][DEMONSTRATED]
    for part in (made, elsewhere):
        assert len(part["runs"]) == 4 and set(part["arms"]) == {"a", "b"}
        assert set(part["differences"]) == {"a minus b"} and part["floors"]
        assert list(study_table(part).index) == ["a", "b"]
    rows = [draw_rows(SEEDS["test"], 4, view) for view in (TRAINED, DEMONSTRATED)]
    found = [part["floors"]["macro"] for part in (made, elsewhere)]
    assert found == [
        study.floor_scores(r, v)["macro"]
        for r, v in zip(rows, (TRAINED, DEMONSTRATED), strict=True)
    ]


def test_an_arm_starts_where_its_own_run_ended(start, launched, tmp_path):
    chosen = load_study("modes", arms=["vanilla"], seeds=[3], questions=6)
    run_study(tmp_path, chosen, changes=["max_completion_length=4"])
    (first, form), (second, recipe) = launched
    assert (first, second) == ("vanilla_start", "vanilla_seed3")
    assert form.method == "sft" and form.model_path.endswith("tiny_warmstart")
    assert recipe.method == "grpo" and recipe.model_path == str(start)
    assert recipe.seed == 3 and form.seed == 0
    assert (tmp_path / "vanilla_start" / "answers.jsonl").exists()


# ---------------------------------------------------------------- pooled


def test_pooled_gains_average_seeds_and_pair_arms():
    before = [prediction(i, 0.0) for i in range(30)]
    good = [prediction(i, 1.0) for i in range(30)]
    half = [prediction(i, float(i % 2)) for i in range(30)]
    answers = {
        ("map", 0): (before, good),
        ("map", 1): (before, half),
        ("no_map", 0): (before, half),
        ("no_map", 1): (before, before),
    }
    pooled = pool(answers)
    assert pooled["arms"]["map"]["score"][0] == pytest.approx(0.75)
    assert pooled["arms"]["no_map"]["per_task"]["object_counting"][0] == 0.25
    gap = pooled["differences"]["map minus no_map"]["score"]
    assert gap[0] == pytest.approx(0.5) and gap[1] > 0
    other = pool(answers, "no_map")["differences"]["no_map minus map"]["score"]
    assert other[0] == pytest.approx(-0.5)
    assert pool(answers, "absent")["differences"] == {}
    # The same rooms asked twice are still 30 rooms, not 60.
    twice = pool({("map", s): (before, half) for s in (0, 1)})["arms"]["map"]
    once = pool({("map", 0): (before, half)})["arms"]["map"]
    assert twice["score"] == pytest.approx(once["score"])


def test_the_table_has_a_row_for_each_arm():
    before = [prediction(i, 0.5, hits=1) for i in range(8)]
    after = [prediction(i, 1.0, hits=2) for i in range(8)]
    runs = [study.run_record("map", s, before, after, 10.0 * s) for s in (1, 2)]
    made = {"runs": runs, **pool({("map", s): (before, after) for s in (1, 2)})}
    row = study_table(made).loc["map"]
    assert (row["before"], row["after"], row["delta"]) == (0.5, 1.0, 0.5)
    assert (row["hits before"], row["hits after"]) == (0.25, 0.5)
    assert (row["seconds"], row["seeds"]) == (15.0, 2)
    assert study_table(made, "hits").loc["map", "low"] == pytest.approx(0.25)
    assert "floor" not in row
    made["floors"] = {"overall": {"floor": "each task's", "score": 0.4}}
    assert study_table(made).loc["map", "floor"] == 0.4
    assert "floor" not in study_table(made, "hits")


def test_a_study_has_the_strongest_floor_of_each_task():
    rows = draw_rows(SEEDS["test"], 60, TRAINED)
    made = study.floor_scores(rows, TRAINED)
    kinds = {task_kind(row["question_type"]) for row in rows}
    assert set(made) == {*kinds, "macro", "overall"}
    train = draw_rows(SEEDS["develop"], study.FLOOR_QUESTIONS, TRAINED)
    for name, predictions in floors(rows, train).items():
        table = summarize(predictions)
        for line in table[table["level"] == "kind"].itertuples():
            floor = made[line.name]
            assert floor["score"] >= line.score - 1e-12
            if floor["floor"] == name:
                assert floor["score"] == pytest.approx(line.score)
    assert made["macro"]["floor"] == "each task's"


def test_no_other_run_uses_the_rooms_of_the_forms():
    config = load_config("tiny_form", {"max_steps": 1, "prompts_per_step": 2})
    first = draw_rows(SEEDS["form"], 2, DEMONSTRATED, exact_boxes=False)
    assert [r["id"] for r in training_rows(config)] == [r["id"] for r in first]
    with refused("training.setting-value", says="test"):
        load_config("tiny", {"rooms": "test"})


# ---------------------------------------------------------------- the warm start


def test_a_warm_start_is_described_on_its_own_and_on_the_new_view(
    tmp_path, monkeypatch
):
    asked = []

    def answers(recipe, model_dir, rows, out_path, condition="own"):
        asked.append((rows[0]["video"].split("/")[2], condition, recipe.frames))
        kinds = {row["question_type"] for row in rows}
        return [
            prediction(number, 1.0, hits=2) | {"question_type": kind}
            for number, kind in enumerate(sorted(kinds))
        ]

    monkeypatch.setattr(study, "_ask", answers)
    settings = load_config("tiny")
    found = study.warmstart_metrics(
        tmp_path / "model", settings, DEMONSTRATED, questions=18
    )
    assert asked == [
        (DEMONSTRATED, "own", 8),
        (TRAINED, "own", 8),
        (DEMONSTRATED, "other", 8),
    ]
    assert found["seen"]["score"] == 1.0 and found["seen"]["hits"] == 0.5
    assert found["strongest_floor"]["score"] >= found["majority"]["score"] > 0
