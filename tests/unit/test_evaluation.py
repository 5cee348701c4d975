"""Evaluation: conditions, resume, floors, tables and their intervals."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from support import refused

from spacer_lib.artifacts import read_jsonl
from spacer_lib.evaluation import backends
from spacer_lib.evaluation.backends import load
from spacer_lib.evaluation.conditions import CONDITIONS, condition_rows, random_map
from spacer_lib.evaluation.floors import floors
from spacer_lib.evaluation.predictions import record, reward_rule
from spacer_lib.evaluation.runner import evaluate
from spacer_lib.evaluation.statistics import MAP_SCORES, compare, summarize, verdict
from spacer_lib.language.asking import AskSettings
from spacer_lib.maps.text import parse_map
from spacer_lib.models.generation import generate, generation_settings
from spacer_lib.tiny import model as tiny
from spacer_lib.tiny.curriculum import draw_rows


@pytest.fixture(scope="module")
def rows():
    return draw_rows(8_100_000, 4, "seen")


@pytest.fixture(scope="module")
def checkpoint(rows):
    """A freshly initialised model: its answers are noise, the machinery is real."""
    corpus = [row["question"] for row in rows]
    tokenizer = tiny.build_tokenizer(corpus + ["0 1 2 3 4 5 6 7 8 9"])
    torch.manual_seed(0)
    model = tiny.build_model(tokenizer, hidden=128, layers=1)
    return model, tiny.build_processor(tokenizer)


SETTINGS = AskSettings("tiny", max_new_tokens=6, batch_size=2)
SAMPLED = replace(SETTINGS, temperature=1.0, seed=1)


def run(checkpoint, rows, path, condition="own", **changes):
    settings = replace(SETTINGS, **changes)
    return evaluate(*checkpoint, rows, settings, condition=condition, out_path=path)


def predict(row, text):
    return record(row, text, reward_rule())


# ---------------------------------------------------------------- generation


def test_greedy_ignores_the_checkpoints_own_sampling_settings(checkpoint, rows):
    model, processor = checkpoint
    before = generate(model, processor, rows, SETTINGS)
    model.generation_config.update(do_sample=True, temperature=9.0, top_p=0.5)
    model.generation_config.repetition_penalty = 3.0
    after = generate(model, processor, rows, replace(SETTINGS, seed=5))
    model.generation_config.repetition_penalty = None
    model.generation_config.update(do_sample=False, temperature=None, top_p=None)
    assert before == after
    assert len(before) == len(rows)


def test_sampling_follows_its_seed_and_leaves_the_global_generator_alone(
    checkpoint, rows
):
    state = torch.random.get_rng_state()
    first = generate(*checkpoint, rows, SAMPLED)
    assert torch.equal(state, torch.random.get_rng_state())
    assert first == generate(*checkpoint, rows, SAMPLED)
    assert first != generate(*checkpoint, rows, replace(SAMPLED, seed=2))


def test_a_prefix_starts_the_text_and_is_seen_by_the_model(checkpoint, rows):
    free = generate(*checkpoint, rows, SETTINGS)
    prefixes = ["<think><map>{}</map>" + str(i) for i in range(len(rows))]
    forced = generate(*checkpoint, rows, SETTINGS, prefixes=prefixes)
    for text, prefix in zip(forced, prefixes, strict=True):
        assert text.startswith(prefix) and len(text) > len(prefix)
    tails = [t[len(p) :] for t, p in zip(forced, prefixes, strict=True)]
    assert tails != free
    with refused("models.uneven-prefixes", says="1"):
        generate(*checkpoint, rows, SETTINGS, prefixes=["x"])


def test_padding_does_not_change_a_greedy_answer(checkpoint, rows):
    together = generate(*checkpoint, rows, replace(SETTINGS, batch_size=4))
    alone = generate(*checkpoint, rows, replace(SETTINGS, batch_size=1))
    assert together == alone


def test_pads_of_pictures_are_never_written(checkpoint, rows):
    model, _ = checkpoint
    banned = [model.config.image_token_id, model.config.video_token_id]
    assert generation_settings(model)["suppress_tokens"] == banned


# ---------------------------------------------------------------- conditions


def test_other_swaps_videos_between_rooms_and_keeps_the_truth(rows):
    shown, prefixes, blind = condition_rows(rows, "other")
    assert prefixes is None and not blind
    videos = [row["video"] for row in rows]
    assert [row["video"] for row in shown] == videos[1:] + videos[:1]
    for mine, row in zip(shown, rows, strict=True):
        assert {**mine, "video": row["video"]} == row


def test_questions_of_one_room_see_the_same_other_room(rows):
    twin = {**rows[0], "id": "twin", "scene_name": rows[0]["scene_name"][:-2] + "01"}
    shown, _, _ = condition_rows([*rows, twin], "other")
    assert shown[-1]["video"] == shown[0]["video"] == rows[1]["video"]
    with refused("evaluation.one-room"):
        condition_rows([rows[0], twin], "other")  # a rescan is no other room


def test_oracle_starts_with_the_true_map_in_question_order(rows):
    shown, prefixes, blind = condition_rows(rows, "oracle")
    assert shown == rows and not blind
    for row, prefix in zip(rows, prefixes, strict=True):
        text = prefix.removeprefix("<think><map>").removesuffix("</map>")
        drawn = parse_map(text).map
        truth = {k: [tuple(c) for c in v] for k, v in row["map"].items()}
        assert drawn == truth
        asked = row["categories"]
        assert list(json.loads(text))[-len(asked) :] == asked


def test_a_random_map_keeps_what_there_is_and_loses_where(rows):
    shown, prefixes, _ = condition_rows(rows, "random_map", seed=4)
    assert shown == rows
    for row, prefix in zip(rows, prefixes, strict=True):
        text = prefix.removeprefix("<think><map>").removesuffix("</map>")
        drawn = parse_map(text).map
        counts = {name: len(cells) for name, cells in row["map"].items()}
        assert {name: len(cells) for name, cells in drawn.items()} == counts
        assert list(json.loads(text))[-len(row["categories"]) :] == row["categories"]
    # Keyed by seed and id alone.
    assert condition_rows(rows[::-1], "random_map", seed=4)[1] == prefixes[::-1]
    assert condition_rows(rows, "random_map", seed=5)[1] != prefixes


def test_random_cells_are_uniform():
    many = {"id": "a", "map": {"chair": [[0, 0]] * 4000}}
    cells = np.array(random_map(many, seed=1, grid_size=5)["chair"])
    share = np.bincount(cells[:, 0] * 5 + cells[:, 1], minlength=25) / 4000
    assert share.shape == (25,) and np.abs(share - 0.04).max() < 0.015


def test_a_forced_map_needs_a_map(rows):
    for condition in ("oracle", "random_map"):
        with refused("evaluation.no-true-map", says=rows[1]["id"]):
            condition_rows([rows[0], {**rows[1], "map": None}], condition)


def test_blind_shows_no_video_and_own_shows_all(checkpoint, rows, monkeypatch):
    seen = []
    model, processor = checkpoint
    real = model.generate
    monkeypatch.setattr(model, "generate", lambda **k: seen.append(k) or real(**k))
    for condition in ("own", "blind"):
        shown, _, blind = condition_rows(rows, condition)
        generate(model, processor, shown, SETTINGS, blind=blind)
    own, blind = seen[0], seen[2]
    assert own["video_grid_thw"].shape == (2, 3)
    assert (own["mm_token_type_ids"] == 2).sum() == 2 * 32
    assert "pixel_values_videos" not in blind and "mm_token_type_ids" not in blind
    assert not (blind["input_ids"] == model.config.video_token_id).any()


def test_unknown_condition_and_oracle_without_map_are_refused(
    checkpoint, rows, tmp_path
):
    with refused("evaluation.unknown-condition", says="mine"):
        condition_rows(rows, "mine")
    for condition in ("oracle", "random_map"):
        with refused("evaluation.mode-without-map", says=condition):
            run(checkpoint, rows, tmp_path / "x.jsonl", condition, mode="direct")


# ---------------------------------------------------------------- predictions


def test_predictions_are_complete_and_on_disk(checkpoint, rows, tmp_path):
    for condition in CONDITIONS:
        path = tmp_path / f"{condition}.jsonl"
        made = run(checkpoint, rows, path, condition)
        assert read_jsonl(path) == made
        assert [p["id"] for p in made] == [row["id"] for row in rows]
        assert {p["condition"] for p in made} == {condition}
        assert len({p["config"] for p in made}) == 1
        keys = {
            "prediction",
            "answer",
            "score",
            "failure",
            "map_failure",
            "seed",
            "map_hits",
            "map_total",
            *MAP_SCORES,
        }
        assert keys <= made[0].keys()
    oracle = read_jsonl(tmp_path / "oracle.jsonl")
    assert all(p["map_hits"] == p["map_total"] > 0 for p in oracle)
    assert all(p["map_decay"] == pytest.approx(1) for p in oracle)


def test_resume_answers_only_what_is_missing_and_gives_the_same_file(
    checkpoint, rows, tmp_path, monkeypatch
):
    path = tmp_path / "own.jsonl"
    settings = dict(temperature=1.0, seed=3)
    run(checkpoint, rows, path, **settings)
    whole = path.read_bytes()
    calls = []
    real = backends.respond

    def counted(model, processor, batch, settings, **options):
        calls.append([row["id"] for row in batch])
        return real(model, processor, batch, settings, **options)

    monkeypatch.setattr(backends, "respond", counted)
    run(checkpoint, rows, path, **settings)
    assert calls == [] and path.read_bytes() == whole
    lines = whole.splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:3]))  # stopped in the middle of a batch
    run(checkpoint, rows, path, **settings)
    assert calls == [[row["id"] for row in rows[2:]]]
    assert path.read_bytes() == whole


@pytest.mark.parametrize("change", ["seed", "rows", "weights"])
def test_predictions_of_another_run_are_not_reused(checkpoint, rows, tmp_path, change):
    path = tmp_path / "own.jsonl"
    model, _ = checkpoint
    old = run(checkpoint, rows, path)
    if change == "seed":
        new = run(checkpoint, rows, path, seed=1)
    elif change == "rows":
        new = run(checkpoint, [{**rows[0], "question": "Why?"}, *rows[1:]], path)
    else:
        weight = model.model.language_model.norm.weight
        with torch.no_grad():
            weight.mul_(1.01)
        new = run(checkpoint, rows, path)
        with torch.no_grad():
            weight.div_(1.01)
    assert new[0]["config"] != old[0]["config"]
    assert read_jsonl(path) == new


def test_a_missing_video_is_wrong_and_named(checkpoint, rows, tmp_path):
    lost = [{**rows[0], "video": str(tmp_path / "none.mp4")}, *rows[1:]]
    made = run(checkpoint, lost, tmp_path / "own.jsonl")
    missing = f"missing_media: {tmp_path}/none.mp4"
    assert made[0]["failure"] == made[0]["map_failure"] == missing
    assert made[0]["score"] == 0 and made[0]["map_hits"] == 0 < made[0]["map_total"]
    assert made[0]["prediction"] == "" and made[1]["failure"] != missing
    blind = run(checkpoint, lost, tmp_path / "blind.jsonl", "blind")
    assert blind[0]["failure"] != missing


def test_equal_ids_are_refused(checkpoint, rows, tmp_path):
    with refused("evaluation.id-twice", says=rows[0]["id"]):
        run(checkpoint, [rows[0], rows[0]], tmp_path / "own.jsonl")


def test_a_checkpoint_that_is_not_there_is_named(tmp_path):
    with refused("models.no-checkpoint", says=str(tmp_path / "model")):
        load(tmp_path / "model")


def test_a_saved_checkpoint_loads_and_answers_the_same(checkpoint, rows, tmp_path):
    for part in checkpoint:
        part.save_pretrained(tmp_path)
    loaded = load(tmp_path)
    assert generate(*loaded, rows, SETTINGS) == generate(*checkpoint, rows, SETTINGS)


# ---------------------------------------------------------------- scoring, floors


def question(number, answer, kind="object_counting", scene=None):
    numerical = kind == "object_counting"
    return {
        "id": f"q{number}",
        "scene_name": f"scene{number if scene is None else scene:04d}_00",
        "question_type": kind,
        "problem_type": "numerical" if numerical else "multiple choice",
        "question": "",
        "options": None if numerical else ["A. left", "B. right"],
        "ground_truth": answer,
        "categories": ["chair"],
        "map": {"chair": [[0, 0], [9, 9]]},
        "video": "",
    }


def test_predict_scores_answer_and_map_by_hand():
    text = '<think><map>{"chair":[[0,1],[3,3]]}</map>x</think><answer>8</answer>'
    made = predict(question(0, "10"), text)
    assert made["score"] == pytest.approx(0.7)  # 20% off
    assert (made["map_hits"], made["map_total"]) == (1, 2)
    far, near = np.sqrt(72) / np.sqrt(200), 1 / np.sqrt(200)
    assert made["map_released"] == pytest.approx(1 - (far + near) / 2)
    decay = (np.exp(-1 / 1.5) + np.exp(-np.sqrt(72) / 1.5)) / 2
    assert made["map_decay"] == pytest.approx(decay)
    assert made["failure"] is None and made["map_failure"] is None
    assert made["extracted"] == "8"
    bare = predict(question(0, "10"), "8")
    assert (bare["failure"], bare["extracted"]) == ("no_answer_tag", None)
    untagged = predict(question(0, "10"), "<answer>8</answer>")
    assert (untagged["failure"], untagged["extracted"]) == ("no_think", "8")
    assert untagged["score"] == pytest.approx(0.7)


def test_rows_without_a_map_have_no_map_score():
    for nothing in (None, {}, {"chair": []}):
        made = predict({**question(0, "1"), "map": nothing}, "<answer>1</answer>")
        assert not any(key.startswith("map_") for key in made)


def test_floors_give_the_most_frequent_answer_the_same_scorer():
    rows = [question(i, a) for i, a in enumerate(["2", "2", "1", "4"])]
    made = floors(rows)["majority"]
    # Of the three other rooms: 1 (first of a tie), 1, 2, 2. 2 against 1 is 100% off,
    # 1 against 2 and 2 against 4 are 50% off: one threshold of ten.
    assert [p["score"] for p in made] == pytest.approx([0.1, 0.1, 0, 0.1])
    assert {p["condition"] for p in made} == {"majority of other rooms"}
    other = floors(rows, train_rows=[question(9, "4")])["majority"]
    assert [p["score"] for p in other] == pytest.approx([0, 0, 0, 1])
    assert other[0]["condition"] == "majority of training rows"
    with refused("evaluation.task-not-counted", says="object_rel_distance"):
        floors([question(0, "A", "object_rel_distance")], train_rows=rows)
    with refused("evaluation.task-not-counted", says="--train-data"):
        floors(rows[:1])


# ---------------------------------------------------------------- tables


EASY, HARD = "object_rel_direction_easy", "object_rel_direction_hard"


def prediction(number, score, kind="object_counting", scene=None, hits=1, failure=None):
    return {
        "id": f"q{number}",
        "scene_name": f"scene{number if scene is None else scene:04d}_00",
        "question_type": kind,
        "score": score,
        "failure": failure,
        "map_failure": None,
        "map_hits": hits,
        "map_total": 4,
        **dict.fromkeys(MAP_SCORES, score / 2),
    }


def row_of(table, name, level=None, **others):
    chosen = table[table["name"] == name]
    for key, value in {"level": level, **others}.items():
        if value is not None:
            chosen = chosen[chosen[key] == value]
    (row,) = chosen.to_dict("records")
    return row


def test_summarize_by_hand():
    made = [
        prediction(0, 1.0, hits=4),
        prediction(1, 0.5, hits=0, failure="no_number"),
        prediction(2, 1.0, EASY),
        prediction(3, 1.0, EASY),
        prediction(4, 0.0, EASY),
        prediction(5, 0.0, HARD),
    ]
    table = summarize(made)
    counting = row_of(table, "object_counting", "question_type")
    assert counting["score"] == pytest.approx(0.75)
    assert counting["exact"] == pytest.approx(0.5)  # 0.5 is no exact answer
    assert counting["hits"] == pytest.approx(4 / 8)
    assert counting["map_decay"] == pytest.approx(0.375)
    assert (counting["n"], counting["failures"]) == (2, 1)
    # Three of easy and one of hard weigh the same within the kind.
    kind = row_of(table, "object_rel_direction")
    assert kind["score"] == pytest.approx((2 / 3 + 0) / 2)
    macro = row_of(table, "macro")
    assert macro["score"] == pytest.approx((0.75 + 1 / 3) / 2)
    assert row_of(table, "overall")["score"] == pytest.approx(3.5 / 6)
    for row in table.to_dict("records"):
        if row["spaces"] > 1:
            assert row["score_low"] <= row["score"] <= row["score_high"]


def test_intervals_are_wider_when_questions_share_rooms():
    rng = np.random.default_rng(0)
    by_room = rng.integers(2, size=20).repeat(10).astype(float)
    apart = [prediction(i, v) for i, v in enumerate(by_room)]
    shared = [prediction(i, v, scene=i // 10) for i, v in enumerate(by_room)]
    widths = []
    for made in (apart, shared):
        row = row_of(summarize(made), "overall")
        widths.append(row["score_high"] - row["score_low"])
    # Ten copies of a room carry the information of one: √10 times as wide.
    assert widths[1] / widths[0] == pytest.approx(np.sqrt(10), rel=0.2)


def test_the_macro_interval_agrees_with_resampling_the_whole_computation():
    rng = np.random.default_rng(1)
    kinds = [EASY, HARD, "object_counting"]
    made = [
        prediction(i, float(rng.random() < 0.3 + 0.3 * (i % 3)), kinds[i % 3], i // 3)
        for i in range(300)
    ]
    row = row_of(summarize(made), "macro")
    scores = np.array([p["score"] for p in made]).reshape(100, 3)
    draws = []
    for _ in range(2000):
        easy, hard, count = scores[rng.integers(100, size=100)].mean(axis=0)
        draws.append(((easy + hard) / 2 + count) / 2)
    low, high = np.quantile(draws, [0.025, 0.975])
    assert row["score_low"] == pytest.approx(low, abs=0.01)
    assert row["score_high"] == pytest.approx(high, abs=0.01)


def test_compare_finds_a_paired_gain_and_says_so_in_words():
    rng = np.random.default_rng(2)
    base = 0.95 * rng.random(200)
    before = [prediction(i, float(v), hits=1) for i, v in enumerate(base)]
    after = [prediction(i, float(v) + 0.05, hits=2) for i, v in enumerate(base)]
    table = compare(before, after[::-1])  # order does not matter
    score = row_of(table, "overall", measure="score")
    assert score["delta"] == pytest.approx(0.05)
    assert score["verdict"] == "up" and score["low"] == pytest.approx(0.05)
    hits = row_of(table, "overall", measure="hits")
    assert (hits["before"], hits["after"]) == (0.25, 0.5)
    down = compare(after, before)
    assert row_of(down, "overall", measure="hits")["verdict"] == "down"
    same = compare(before, before)
    assert set(same["verdict"]) == {"not distinguishable"}


def test_a_gain_in_a_few_rooms_is_not_distinguishable():
    before = [prediction(i, 0.0, scene=i // 10) for i in range(60)]
    after = [prediction(i, float(i < 10), scene=i // 10) for i in range(60)]
    row = row_of(compare(before, after), "overall", measure="score")
    assert row["delta"] == pytest.approx(1 / 6)
    assert row["verdict"] == "not distinguishable"


def test_words_for_intervals():
    assert verdict(0.1, 0.2) == "up" and verdict(-0.2, -0.1) == "down"
    assert verdict(-0.1, 0.1) == verdict(0, 0.1) == "not distinguishable"
    assert verdict(float("nan"), float("nan")) == "not distinguishable"


def test_rows_without_a_map_have_no_hit_rate():
    bare = [{**prediction(i, 1.0), "map_hits": 0, "map_total": 0} for i in range(2)]
    row = row_of(summarize(bare), "overall")
    assert np.isnan([row["hits"], row["hits_low"], row["hits_high"]]).all()


def test_compare_needs_the_same_questions():
    with refused("evaluation.other-questions", says="1 shared"):
        compare([prediction(0, 1.0), prediction(1, 1.0)], [prediction(0, 1.0)])
    with refused("evaluation.other-questions", says="once each"):
        compare([prediction(0, 1.0)] * 2, [prediction(0, 1.0)] * 2)
    with refused("evaluation.no-predictions"):
        summarize([])


@pytest.mark.parametrize("score", [float("nan"), float("inf"), -0.1, 1.1, "a", None])
def test_scores_that_are_no_shares_are_refused(score):
    """A mean would pass over NaN, and the worst answers would not count."""
    good = [prediction(0, 1.0), prediction(1, 0.0)]
    bad = {**good[1], "score": score}
    with refused("evaluation.score-out-of-range", says=str(bad["id"])):
        summarize([good[0], bad])
    with refused("evaluation.score-out-of-range", says=str(bad["id"])):
        compare(good, [good[0], bad])
