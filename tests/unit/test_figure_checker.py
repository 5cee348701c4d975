"""The figure checker finds each kind of fault, and none in the project's pictures."""

import itertools

import numpy as np
import pandas as pd
import pytest
from figure_checker import contrast, delta_e, findings
from matplotlib import pyplot as plt
from matplotlib.colors import to_rgb
from samples.filmed import walk_footage

from spacer_lib.evaluation.consistency import FAILURES
from spacer_lib.evaluation.gaps import Gap
from spacer_lib.maps.grid import rasterize
from spacer_lib.pictures import (
    evaluation_plots,
    figures,
    kind_plots,
    map_plots,
    pipeline,
    question_plots,
    reward_plots,
    room_plots,
    tables,
    training_plots,
)
from spacer_lib.pictures.style import use_house_style
from spacer_lib.questions.budgets import BudgetAnswers
from spacer_lib.questions.drafts import Draft
from spacer_lib.questions.generators import question_rows
from spacer_lib.questions.kinds import QUESTION_TYPES
from spacer_lib.questions.rules import Rules
from spacer_lib.rewards.score import RewardBreakdown
from spacer_lib.rooms.scans import read_scenes
from spacer_lib.rooms.synthetic.layout import draw_room
from spacer_lib.rooms.synthetic.views import VIEWS, to_scene, view_poses
from spacer_lib.tiny.curriculum import SEEDS, demonstration, draw_rows

CATEGORIES = (
    "backpack bathtub bed bookshelf chair computer_tower door kitchen_cabinet "
    "microwave nightstand pillow refrigerator table trash_bin window"
).split()
KINDS = (
    "object_counting object_size_estimation room_size_estimation object_abs_distance "
    "object_rel_distance object_rel_direction_easy object_rel_direction_medium "
    "object_rel_direction_hard obj_appearance_order"
).split()
RNG = np.random.default_rng


@pytest.fixture(autouse=True)
def house_style():
    with plt.rc_context():
        use_house_style()
        yield
    plt.close("all")


def full_map(categories=15, per=2):
    cells = RNG(0).integers(0, 10, (categories, per, 2)).tolist()
    names = [name.replace("_", " ") for name in CATEGORIES[:categories]]
    return dict(zip(names, cells, strict=True))


def moved_map(cells):
    """Some objects in place, some moved, a category missing and one invented."""
    moved = {
        name: [[min(9, x + i % 2), max(0, y - i)] for i, (x, y) in enumerate(group)]
        for name, group in cells.items()
    }
    moved.pop(next(iter(moved)))
    return {**moved, "washing machine": [[4, 4]]}


def summary(seed=0, level="question_type"):
    low = RNG(seed).uniform(0.1, 0.6, len(KINDS))
    measures = {"score": low + 0.1, "score_low": low, "score_high": low + 0.2}
    return pd.DataFrame({"level": level, "name": KINDS, "n": 120, **measures})


def curve_rows(*keys, steps=30):
    values = RNG(1).uniform(0.2, 0.9, (steps, len(keys)))
    return [
        {"step": i, **dict(zip(keys, v, strict=True))} for i, v in enumerate(values)
    ]


def breakdown(**parts):
    zero = dict.fromkeys(RewardBreakdown.__dataclass_fields__)
    return RewardBreakdown(**{**zero, **parts})


def dots(rows):
    return {f"{name.replace('_', ' ')}": (40.0, 30.0, 52.0) for name in rows}


# ---------------------------------------------------------------- the pictures
# Each draws on the axes of a figure of a size that notebooks use.


def draw_pipeline():
    _, ax = plt.subplots(figsize=(10, 3))
    names = ["1 Room", "2 Map", "3 Question", "4 Prompt", "5 Completion", "6 Reward"]
    stations = dict.fromkeys(names, "a program checks it\nnotebooks 07 to 09")
    pipeline.pipeline(stations, ax)


def draw_maps():
    figure, axes = plt.subplots(1, 2, figsize=(11, 3.8))
    cells = full_map()
    map_plots.cognitive_map(cells, axes[0])
    map_plots.cognitive_map(cells, axes[1], predicted=moved_map(cells))


def draw_map_of_eight():
    _, ax = plt.subplots(figsize=(5, 3.4))
    map_plots.cognitive_map(full_map(8, 4), ax)


def draw_floor_plan():
    _, ax = plt.subplots(figsize=(5.4, 4))
    room_plots.floor_plan(to_scene(draw_room(3, "furnished")), ax).set(title="a room")
    room_plots.lettered(ax, "X", (0, 0))


def filmed_room(seed=5):
    """Nothing is rendered: an object is shown if its centre is in the picture."""
    drawn, view = draw_room(seed), VIEWS["walk"]
    footage = walk_footage(drawn, to_scene(drawn).instances)
    return to_scene(drawn, view, footage=footage)


def questions_about(scene, names):
    rules = Rules(order_gap_s=0.2)
    for name in names:
        found = QUESTION_TYPES[name].generator(scene, RNG(0), rules)
        yield from itertools.islice((q for q in found if isinstance(q, Draft)), 1)


def draw_questions():
    scene, rules = filmed_room(), Rules(order_gap_s=0.2)
    for names in kind_plots.FAMILIES.values():
        _, axes = plt.subplots(2, 3, figsize=(8.4, 3.9))
        asked = list(questions_about(scene, names))
        assert len(asked) >= 3
        kind_plots.question_panels(asked, scene, [*axes.flat], rules=rules)


def draw_budgets():
    figure, ax = plt.subplots(figsize=(7, 2))
    draft = Draft("object_counting", "numerical", "", None, "3", ("trash bin",))
    one = BudgetAnswers(draft, {8: "2", 32: "3"}, {4: "unseen", 16: "small"})
    question_plots.budget_answers([one] * 5, ax)


def draw_room_3d():
    ax = plt.figure(figsize=(7, 5)).add_subplot(projection="3d")
    points = RNG(0).uniform(0, 4, (200, 3))
    room_plots.room_3d(to_scene(draw_room(3)), points, points / 4, ax)


def draw_paths():
    _, axes = plt.subplots(1, 2, figsize=(9, 4))
    poses = view_poses(draw_room(0, "furnished"), VIEWS["walk"])
    room_plots.camera_path(poses, axes[0])
    points = RNG(0).uniform(0, 4, (200, 3))
    room_plots.cloud_from_above(points, points / 4, axes[1])


def floor_points():
    x, y = np.meshgrid(np.arange(0, 4.01, 0.1), np.arange(0, 3.01, 0.1))
    points = np.stack([x.ravel(), y.ravel(), np.zeros(x.size)], axis=1)
    return points[(points[:, 0] < 2.55) | (points[:, 1] < 1.55)]  # an L


def draw_areas():
    _, ax = plt.subplots()
    room_plots.area_by_alpha(floor_points(), ax, 9.75, [0.2, 0.5, 3.0])


def draw_area():
    figure, axes = plt.subplots(1, 2, figsize=(9, 3.4))
    room_plots.room_area(floor_points(), axes[0])
    scene = to_scene(draw_room(3))
    first, *_, last = scene.instances
    low, high = np.array([*scene.floor_min_m, 0]), np.array([*scene.floor_max_m, 1])
    inside = low + floor_points() / (4, 3, 1) * (high - low)
    room_plots.floor_plan(scene, axes[1], inside)
    room_plots.gap_line(first, last, axes[1], "A: 1.20 m")


def draw_first_seen():
    _, ax = plt.subplots(figsize=(6.4, 3))
    room_plots.first_seen_bars(to_scene(draw_room(3)), ax)


def draw_answers():
    figure, axes = plt.subplots(1, 2, figsize=(10, 3))
    rows = question_rows(to_scene(draw_room(3)), 0, per_task=6)[0]
    numbers = [r for r in rows if r["problem_type"] == "numerical"]
    question_plots.answer_histogram(numbers[:9], axes[0])
    letters = [r for r in rows if r["problem_type"] != "numerical"]
    question_plots.answer_histogram(letters[:9], axes[1])


def draw_shares():
    _, ax = plt.subplots(figsize=(6.4, 3.4))
    counts = {kind: 900 - 90 * i for i, kind in enumerate([*KINDS, "route_planning"])}
    question_plots.share_donut(counts, ax, "tasks")


def draw_durations():
    _, ax = plt.subplots(figsize=(5, 3))
    question_plots.duration_histogram(RNG(0).gamma(4, 20, 200), ax)


def draw_rejections():
    _, ax = plt.subplots(figsize=(8, 3))
    counts = {(k, "too close to call"): 10 * i + 4 for i, k in enumerate(KINDS)}
    question_plots.rejection_bars(counts, ax)


def draw_rewards():
    _, axes = plt.subplots(1, 2, figsize=(9, 3))
    good = breakdown(format=1.0, task=1.0, map=0.5)
    bad = breakdown(format=0.0, task=0.0, map=0.0, failure="no answer tag")
    labels = ["copies", "guesses"]
    reward_plots.reward_bars([good, bad], axes[0], labels)
    curve = [(i, 1 - i / 5, 0.95 - i / 5, 1.05 - i / 5) for i in range(5)]
    label = "jitter (cells); n = 40 rooms, 95% intervals"
    reward_plots.reward_vs_error({"released": curve, "aligned": curve}, axes[1], label)


def draw_reward_table():
    presets = [f"preset {i}" for i in range(8)]
    values = np.linspace(0, 3, 13 * 8).reshape(13, 8)
    table = pd.DataFrame(values, [f"probe {i}" for i in range(13)], presets)
    _, ax = plt.subplots(figsize=(9, 4.6))
    reward_plots.reward_table(table, ax, "mean total reward (n = 60 questions)")


def draw_training():
    parts = ("format", "length", "map", "task")
    keys = [f"rewards/{part}/mean" for part in parts]
    rows = curve_rows(*keys, "reward", "map_hit_rate", "frac_reward_zero_std")
    # The live figure's size.
    training_plots.training_curves(rows, plt.subplots(1, 2, figsize=(8, 3))[1])


def draw_baselines():
    figure, axes = plt.subplots(3, 2, figsize=(8, 8))
    both = curve_rows("loss", "mean_token_accuracy", "rewards/accuracies")
    training_plots.training_curves(both, axes[0])
    training_plots.sft_curves(both, axes[1])
    rows = curve_rows("rewards/margins", "logps/chosen", "logps/rejected")
    training_plots.dpo_curves(rows, axes[2])


def draw_arms():
    _, ax = plt.subplots()
    runs = {f"{arm} map": [curve_rows("hits")] * 3 for arm in ("with", "without")}
    training_plots.arm_curves(runs, ax, "hits")
    ax.set_ylabel("map hits")


def draw_selection():
    _, ax = plt.subplots(figsize=(5, 3))
    counts = {i: 40 - 3 * i for i in range(9)}
    training_plots.selection_histogram(counts, ax, {i: 20 for i in range(1, 8)})


def draw_labels():
    _, ax = plt.subplots(figsize=(10, 2))
    words = "<think> The chair is near the bed . </think> <answer> A </answer>".split()
    training_plots.label_strip(words * 3, [i % 3 > 0 for i in range(36)], ax, 12)


def draw_prefixes():
    base = {"model": "small", "completion": 400, "group": 8}
    seconds = {"shared": 2.0, "a row to a forward": 6.0, "stock batch": 5.0}
    runs = [{**base, "prompt": p, "seconds": {"update": seconds}} for p in (200, 1100)]
    training_plots.shared_prefix_ratios(runs, "prompt", plt.subplots()[1])


def draw_scores():
    figure, axes = plt.subplots(2, 1, figsize=(11, 7))
    runs = ("start", "SFT", "DPO", "SG-RLVR", "no map", "no gate")
    tables_of = {name: summary(i) for i, name in enumerate(runs)}
    evaluation_plots.accuracy_bars(tables_of, axes[0], floors=summary(7))
    evaluation_plots.accuracy_bars({"SG-RLVR": summary(3)}, axes[1])
    floors = {"majority": summary(8), "no video": summary(9)}
    evaluation_plots.floor_blocks(floors, axes[1], KINDS, "question_type")


def draw_deltas():
    _, ax = plt.subplots(figsize=(6.4, 3))
    verdicts = ["up", "down", "not distinguishable"] * 3
    table = summary().assign(measure="score", delta=0.1, low=0.0, high=0.2)
    evaluation_plots.delta_forest(table.assign(verdict=verdicts), ax)


def draw_study():
    _, ax = plt.subplots(figsize=(6.4, 3))
    gain = {"score": [0.1, 0.05, 0.15]}
    arms = ["map", "no map", "length bonus", "released reward"]
    runs = [{"arm": arm, "delta": gain, "seed": s} for arm in arms for s in range(3)]
    study = {"arms": dict.fromkeys(arms, gain), "runs": runs}
    evaluation_plots.study_forest({**study, "settings": {"questions": 96}}, ax)


def draw_pairs():
    _, axes = plt.subplots(1, 2, figsize=(10, 3.4))
    pairs = {kind.replace("_", " "): (30.0 + i, 34.0) for i, kind in enumerate(KINDS)}
    evaluation_plots.paired_dots(pairs, axes[0], ("before", "after"), margin=0.5)
    axes[0].set_xlabel("score (%)")
    evaluation_plots.interval_dots(dots(KINDS), axes[1], bands=(2.0, 3.0))
    axes[1].set_xlabel("change (points, 95% interval, n = 120)")


def draw_extraction():
    _, ax = plt.subplots(figsize=(6.4, 3))
    rows = {"rule": ["strict", "last letter", "judge"], "score": [0.4, 0.5, 0.6]}
    table = pd.DataFrame({**rows, "level": "overall", "unread": [90, 40, 0], "n": 300})
    evaluation_plots.extraction_bars(table, ax)


def draw_gap():
    _, ax = plt.subplots()
    causes = ["frames", "reading + prompt", "asking again", "total"]
    table = pd.DataFrame({"cause": causes, "share": [0.05, -0.1, 0.02, -0.03]})
    table = table.assign(low=table.share - 0.03, high=table.share + 0.03, verdict="up")
    evaluation_plots.gap_waterfall(Gap(0.6, 0.57, table, None), ax)
    ax.set_title("n = 300 questions")


def draw_consistency():
    _, axes = plt.subplots(2, 1, figsize=(7, 7))
    measures = ("follows", "drawn_suffices", "true_suffices")
    rows = [(k, m, 60, 0.5, 0.4, 0.6) for k in KINDS for m in measures]
    table = pd.DataFrame(rows, columns=["name", "measure", "n", "value", "low", "high"])
    evaluation_plots.share_dots(table, axes[0])
    pairs = [(kind, label) for kind in KINDS for label in FAILURES]
    failed = pd.DataFrame(pairs, columns=["question_type", "label"])
    evaluation_plots.failure_bars(failed, axes[1])


def draw_words():
    _, ax = plt.subplots()
    words = np.arange(1.0, 5.0)
    table = {"words": words, "words_low": words - 0.5, "words_high": words + 0.5}
    labels = ["start", "SFT", "DPO", "SG-RLVR"]
    table = pd.DataFrame({**table, "score": words / 8, "n": 200}, index=labels)
    evaluation_plots.words_against_score(table, ax)


def draw_words_table():
    _, ax = plt.subplots(figsize=(10, 2))
    rows = [("rel. direction, hard", "If I am standing by the kitchen cabinet …" * 4)]
    tables.text_table(rows * 3, ax)


DRAWN = [value for name, value in globals().items() if name.startswith("draw_")]
DRAWN = [draw for draw in DRAWN if draw.__module__ == __name__]


def told(figure):
    return [f"{found.kind}: {found.says}" for found in findings(figure)]


@pytest.mark.parametrize("draw", DRAWN, ids=lambda draw: draw.__name__[5:])
def test_nothing_is_found_in_a_picture(draw):
    draw()
    for number in plt.get_fignums():
        assert told(plt.figure(number)) == []


def test_every_plotting_function_is_checked():
    modules = (evaluation_plots, map_plots, question_plots, reward_plots, room_plots)
    modules += (kind_plots, pipeline, tables, training_plots)
    public = {
        name
        for module in modules
        for name, value in vars(module).items()
        if callable(value)
        and getattr(value, "__module__", "") == module.__name__
        and name[0].islower()
        and name[0] != "_"
    }
    called = {name for draw in DRAWN for name in draw.__code__.co_names}
    elsewhere = {"frames_strip", "number_table"}  # images; the papers' tables, below
    elsewhere |= {"closest_pairs", "mark_places"}  # these draw nothing
    assert public - called == elsewhere


@pytest.mark.parametrize("curve", [True, False])
def test_a_room_at_a_glance_shows_the_video_map_and_verdict(curve):
    drawn = draw_rows(SEEDS["test"], 18, "turn")
    rows = [row for row in drawn if demonstration(row)][: 1 if curve else 3]
    made = [{"prediction": demonstration(row), "score": 1.0} for row in rows]
    made[0] = {"prediction": "<think>no map</think><answer>7</answer>", "score": 0.25}
    steps = [{"step": step, "map_hit_rate": step / 60} for step in range(60)]
    histories = {"map reward": [steps, steps]} if curve else None
    figure = figures.at_a_glance(rows, made, histories)
    assert told(figure) == []
    texts = [text.get_text() for text in figure.findobj(plt.Text)]
    told_once = " ".join(" ".join(texts).split())
    assert f"7 (score 0.25; the truth is {rows[0]['ground_truth']})" in told_once
    assert told_once.count("(correct)") == len(rows) - 1
    assert sum(bool(ax.images) for ax in figure.findobj(plt.Axes)) == 8 * len(rows)


@pytest.mark.parametrize("name", figures.published.names())
def test_nothing_is_found_in_a_papers_table(name):
    assert told(figures.published_table(name)) == []


def test_nothing_is_found_in_the_figures_of_a_question_set():
    scenes = [to_scene(draw_room(seed)) for seed in range(6)]
    rows = [row for scene in scenes for row in question_rows(scene, 0, per_task=3)[0]]
    for figure in (figures.statistics(rows), figures.templates(rows)):
        assert told(figure) == []


def test_nothing_is_found_in_pictures_of_real_rooms(real_meta):
    rooms = [scene for scene in read_scenes(real_meta) if scene.by_category()]
    fullest = sorted(rooms, key=lambda s: len(s.by_category()))[-3:]
    assert len(fullest[-1].by_category()) > 14
    for room in fullest:
        figure, axes = plt.subplots(1, 2, figsize=(11, 4))
        cells = rasterize(room, 10)
        map_plots.cognitive_map(cells, axes[0], predicted=moved_map(cells))
        room_plots.floor_plan(room, axes[1])
        assert told(figure) == [], room.scene_id


# ---------------------------------------------------------------- the checker


def fault_contrast(ax):
    ax.imshow([[0.0, 1.0]], cmap="cividis")
    ax.text(1, 0, "3.00", color="white", ha="center")


def fault_overlap(ax):
    ax.text(0.5, 0.5, "bed")
    ax.text(0.52, 0.5, "trash bin")


def fault_small(ax):
    ax.text(0.5, 0.5, "tiny", fontsize=6)


def fault_alike(ax):
    for name in ("bed", "trash bin"):
        ax.plot([], [], "s", color="#E69F00", label=name)
    ax.legend()


def fault_unlabelled(ax):
    ax.set(xlabel="", ylabel="score (%)")


def fault_unnamed(ax):
    ax.fill_between([0, 1], [0, 0], [1, 1])


def fault_hidden(ax):
    ax.bar([0, 1], [1, 1], label="median")
    ax.legend(loc="center")


FAULTS = [value for name, value in globals().items() if name.startswith("fault_")]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__[6:])
def test_each_kind_of_fault_is_found(fault):
    figure, ax = plt.subplots()
    ax.set(xlabel="step", ylabel="score")
    assert told(figure) == []
    fault(ax)
    kinds = [found.kind for found in findings(figure)]
    assert set(kinds) == {fault.__name__[6:]}


def test_a_wide_figure_is_shown_smaller():
    figure, ax = plt.subplots(figsize=(16, 3))  # 1280 px at 80 dots per inch
    ax.set(xlabel="step", ylabel="score")
    ax.text(0.5, 0.5, "seven", fontsize=9)
    assert "small: 'seven' is 6.9 px" in told(figure)


def test_contrast_and_distance_of_colours():
    black, white = np.zeros((1, 3)), np.ones((1, 3))
    assert contrast(black, white) == pytest.approx(21)
    green, red = (np.array(to_rgb(c)) for c in ("#7F8F1E", "#C4791E"))
    assert delta_e(green, green) == 0
    full = np.abs(delta_e(np.array(to_rgb("blue")), np.array(to_rgb("yellow"))))
    assert full > 100 > 30 > delta_e(green, red)  # alike to some eyes


@pytest.mark.parametrize(("width", "kinds"), [(9, set()), (2.5, {"overlap"})])
def test_oblique_labels_may_have_overlapping_boxes(width, kinds):
    figure, ax = plt.subplots(figsize=(width, 3))
    ax.bar(range(12), 1)
    ax.set_xticks(range(12), ["a long label"] * 12, rotation=30, ha="right")
    ax.set(yticks=[])
    assert {one.kind for one in findings(figure)} == kinds


def test_violins_are_no_intervals():
    figure, ax = plt.subplots()
    ax.violinplot([RNG(0).normal(size=30)])
    ax.set(ylabel="map score", xticks=[])
    assert findings(figure) == []
