"""What is drawn, not how it looks: the numbers on the axes are the data."""

import ast
import re
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from samples.filmed import walk_footage
from support import refused

from spacer_lib import pictures
from spacer_lib.evaluation.consistency import FAILURES
from spacer_lib.pictures import (
    evaluation_plots,
    kind_plots,
    map_plots,
    question_plots,
    reward_plots,
    room_plots,
    training_plots,
)
from spacer_lib.pictures.behind import figure_data
from spacer_lib.pictures.style import PALETTE, category_styles, use_house_style
from spacer_lib.questions.budgets import BudgetAnswers
from spacer_lib.questions.drafts import Draft
from spacer_lib.questions.kinds import QUESTION_TYPES
from spacer_lib.questions.rules import Rules
from spacer_lib.rooms.area import AREA_RULES
from spacer_lib.rooms.geometry import closest_distance_m
from spacer_lib.rooms.synthetic.layout import draw_room
from spacer_lib.rooms.synthetic.views import VIEWS, to_scene, view_poses

# Of the wing, ``figures`` alone reads files and saves pictures.
DRAWING = sorted(
    path
    for path in Path(pictures.__file__).parent.glob("*.py")
    if path.stem not in ("__init__", "figures")
)


@pytest.fixture
def ax():
    return Figure().subplots()


@pytest.fixture
def two_axes():
    return Figure().subplots(1, 2)


def by_gid(ax, gid):
    return [a for a in ax.get_children() if (a.get_gid() or "").startswith(gid)]


def test_house_style_sets_the_palette_and_nothing_can_break_the_colours():
    with mpl.rc_context():
        use_house_style()
        colors = mpl.rcParams["axes.prop_cycle"].by_key()["color"]
    assert colors == list(PALETTE)
    assert len(set(PALETTE)) == 7


def test_category_styles_stay_distinct_beyond_the_palette():
    styles = category_styles(f"kind {i}" for i in range(40))
    assert len(set(styles.values())) == 40
    assert category_styles("ba") == category_styles("ab")


def test_floor_plan_draws_every_box_in_metres(ax):
    room = draw_room(3, "furnished")
    scene = to_scene(room)
    assert room_plots.floor_plan(scene, ax) is ax
    boxes = by_gid(ax, "box")
    assert len(boxes) == len(scene.instances)
    for patch, instance in zip(boxes, scene.instances, strict=True):
        drawn = patch.get_xy()
        low, high = instance.aabb_min_m[:2], instance.aabb_max_m[:2]
        np.testing.assert_allclose(drawn.min(axis=0), low, atol=1e-6)
        np.testing.assert_allclose(drawn.max(axis=0), high, atol=1e-6)
    (floor,) = by_gid(ax, "floor")
    np.testing.assert_allclose(floor.get_xy().min(axis=0), scene.floor_min_m, atol=1e-3)
    assert len(floor.get_xy()) == 1 + len(scene.outline_m[0])
    assert ax.get_xlabel() == "x (m)" and ax.get_aspect() == 1
    letters = [
        category_styles(i.category for i in scene.instances)[i.category][1]
        for i in scene.instances
    ]
    assert [t.get_text() for t in ax.texts] == letters
    named = [text.get_text() for text in ax.get_legend().get_texts()]
    assert named == sorted({i.category for i in scene.instances})


def test_letters_on_a_plan_do_not_hide_each_other(ax):
    spots = room_plots._apart(np.zeros((20, 2)), 0.3)
    gaps = np.linalg.norm(spots[:, None] - spots[None], axis=2)
    assert gaps[np.triu_indices(20, 1)].min() >= 0.3 - 1e-9
    assert spots[0].tolist() == [0, 0]


def l_shaped_floor():
    x, y = np.meshgrid(np.arange(0, 4.01, 0.1), np.arange(0, 3.01, 0.1))
    points = np.stack([x.ravel(), y.ravel(), np.zeros(x.size)], axis=1)
    return points[(points[:, 0] < 2.55) | (points[:, 1] < 1.55)]


def test_the_area_in_the_title_is_that_of_the_triangles(ax):
    room_plots.room_area(l_shaped_floor(), ax)
    (faces,) = by_gid(ax, "triangles")
    corners = np.array([path.vertices[:3] for path in faces.get_paths()])
    (u, v) = (corners[:, i] - corners[:, 0] for i in (1, 2))
    drawn = np.abs(u[:, 0] * v[:, 1] - u[:, 1] * v[:, 0]).sum() / 2
    assert ax.get_title().startswith(f"{drawn:.1f} m²") and drawn < 4 * 3 - 2
    (border,) = by_gid(ax, "outline")
    length = sum(np.linalg.norm(a - b) for a, b in border.get_segments())
    assert 13 < length <= 14 + 1e-6  # the recess is part of it


def test_a_plan_with_points_has_the_rooms_own_outline(ax):
    room_plots.floor_plan(to_scene(draw_room(3)), ax, l_shaped_floor())
    assert by_gid(ax, "outline") and not by_gid(ax, "floor")


def test_a_gap_is_drawn_between_surfaces(ax):
    first, *_, last = to_scene(draw_room(3, "furnished")).instances
    room_plots.gap_line(first, last, ax, "1.00 m")
    (line,) = by_gid(ax, "gap")
    drawn = np.linalg.norm(np.diff(line.get_xydata(), axis=0))
    assert drawn <= closest_distance_m(first, last) + 1e-9
    centres = np.array([first.centroid_m, last.centroid_m])[:, :2]
    assert drawn < np.linalg.norm(np.diff(centres, axis=0))


def test_the_reward_tables_numbers_can_be_read(ax):
    table = pd.DataFrame([[0.0, 1.5], [2.7, 3.0]], ["honest", "pads"], ["ours", "a"])
    reward_plots.reward_table(table, ax, "mean total reward")
    assert [t.get_text() for t in ax.texts] == ["0.00", "1.50", "2.70", "3.00"]
    assert [ax.texts[i].get_color() for i in (0, 3)] == ["white", "black"]


def test_area_by_alpha_marks_each_rule_and_the_true_area(ax):
    x, y = np.meshgrid(np.arange(0, 4.01, 0.1), np.arange(0, 3.01, 0.1))
    floor = np.stack([x.ravel(), y.ravel(), np.zeros(x.size)], axis=1)
    under = ((floor > (1, 1, -1)) & (floor < (2.5, 2.5, 1))).all(axis=1)
    points = np.where(under[:, None], floor + (0, 0, 0.5), floor)  # a bed
    assert room_plots.area_by_alpha(points, ax, 12.0, [0.2, 3.0]) is ax
    for name, rule in AREA_RULES.items():
        (curve,), (dot,) = by_gid(ax, f"area:{name}"), by_gid(ax, f"rule:{name}")
        assert list(curve.get_xdata()) == sorted({0.2, rule.alpha_m, 3.0})
        assert dot.get_xdata() == [rule.alpha_m]
        assert dot.get_ydata() == [rule.area_m2(points)]
    (true,) = by_gid(ax, "true")
    assert list(true.get_ydata()) == [12.0, 12.0]
    labels = [text.get_text() for text in ax.get_legend().get_texts()]
    assert labels[0] == "vsi-bench: 12.0 m² at α = 0.2 m"
    assert labels[1].startswith("spatial-r1: 10") and labels[2] == "true: 12.0 m²"


def test_cognitive_map_alone_marks_cells(ax):
    map_plots.cognitive_map({"chair": [(2, 7)]}, ax)
    (square,) = by_gid(ax, "true:chair")
    assert square.get_center() == pytest.approx((2, 7))
    assert [text.get_text() for text in ax.texts] == ["C"]
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["chair"]
    assert ax.get_xlim() == (-0.5, 9.5) and ax.get_ylim() == (-0.5, 9.5)
    assert not by_gid(ax, "match") and not by_gid(ax, "predicted")


def test_cognitive_map_joins_the_closest_pairs_and_marks_the_rest(ax):
    truth = {"chair": [(0, 0), (9, 9)], "bed": [(5, 5)]}
    guess = {"chair": [[9, 8], [1, 0]], "sofa": [[3, 3]]}
    map_plots.cognitive_map(truth, ax, predicted=guess)
    lines = [line.get_xydata() for line in by_gid(ax, "match:chair")]
    assert {tuple(line[1]) for line in lines} == {(1, 0), (9, 8)}
    for line, true in zip(lines, truth["chair"], strict=True):  # from its border
        assert 0.4 < np.hypot(*(line[0] - true)) < 0.6
    (lonely,) = by_gid(ax, "predicted:sofa")
    assert lonely.get_linestyle() == "--" and lonely.get_fc() == (1, 1, 1, 1)
    assert {m.get_linestyle() for m in by_gid(ax, "predicted:chair")} == {"-"}
    (missed,) = by_gid(ax, "true:bed")
    assert missed.get_linestyle() == "--"
    assert {s.get_linestyle() for s in by_gid(ax, "true:chair")} == {"-"}


def test_a_dot_in_the_cell_of_its_match_lies_in_that_square(ax):
    truth = {"chair": [(2, 2)], "bed": [(2, 2)]}
    map_plots.cognitive_map(truth, ax, predicted={"chair": [[2, 2]]})
    (square,), (dot,) = by_gid(ax, "true:chair"), by_gid(ax, "predicted:chair")
    assert dot.center == pytest.approx(square.get_center())
    assert not by_gid(ax, "match")
    assert sorted(t.get_text() for t in ax.texts) == ["B", "C"]


def test_maps_of_one_figure_share_letters(two_axes):
    names = ("cabinet", "chair")
    for ax, cells in zip(
        two_axes, ({"chair": [(1, 1)]}, {"cabinet": [(1, 1)]}), strict=True
    ):
        map_plots.cognitive_map(cells, ax, names=names, key=ax is two_axes[1])
    assert [ax.texts[0].get_text() for ax in two_axes] == ["H", "C"]
    assert two_axes[0].get_legend() is None
    assert len(two_axes[1].get_legend().get_texts()) == 2


def test_objects_in_one_cell_are_drawn_side_by_side(ax):
    map_plots.cognitive_map({"chair": [(2, 2), (2, 2)], "bed": [(2, 2)]}, ax)
    corners = {(round(p.get_x(), 3), round(p.get_y(), 3)) for p in by_gid(ax, "true")}
    assert len(corners) == 3


def test_camera_path_follows_the_centres_and_looks_where_the_camera_looks(ax):
    poses = view_poses(draw_room(0, "furnished"), VIEWS["walk"])
    room_plots.camera_path(poses, ax, arrows=8)
    (path,) = by_gid(ax, "path")
    np.testing.assert_allclose(path.get_xydata(), poses[:, :2, 3])
    (quiver,) = [c for c in ax.collections]
    np.testing.assert_allclose(quiver.U, poses[:: len(poses) // 8, 0, 2])


def test_frames_strip_shows_each_frame_and_refuses_too_few_axes(two_axes):
    frames = np.zeros((2, 4, 5, 3), np.uint8)
    frames[1] = 255
    room_plots.frames_strip(frames, two_axes, titles=["first", "last"])
    assert two_axes[1].images[0].get_array().min() == 255
    assert two_axes[0].get_title() == "first"
    with refused("pictures.too-few-axes", says="2 axes"):
        room_plots.frames_strip(np.zeros((3, 4, 5, 3), np.uint8), two_axes)


def question(answer, problem_type="numerical", question_type="object_counting"):
    return {
        "ground_truth": answer,
        "problem_type": problem_type,
        "question_type": question_type,
    }


def test_answer_histogram_counts_answers_in_numeric_order(ax):
    question_plots.answer_histogram([question(a) for a in ("10", "2", "2", "3")], ax)
    assert [bar.get_height() for bar in ax.patches] == [2, 1, 1]
    assert [t.get_text() for t in ax.get_xticklabels()] == ["2", "3", "10"]
    assert "counting (n = 4)" in ax.get_title()


def test_answer_histogram_bins_many_numbers(ax):
    question_plots.answer_histogram([question(str(n)) for n in range(100)], ax, bins=5)
    assert [bar.get_height() for bar in ax.patches] == [20] * 5


def test_rejections_are_ranked(ax):
    counts = Counter({("object_counting", "one"): 3, ("object_counting", "two"): 9})
    question_plots.rejection_bars(counts, ax)
    assert [bar.get_width() for bar in ax.patches] == [3, 9]
    assert ax.get_yticklabels()[1].get_text() == "counting: two"


def test_reward_bars_stack_to_the_sum_and_name_failures(ax):
    none = dict(failure=None, map_failure=None)
    good = SimpleNamespace(format=1.0, task=1.0, map=0.5, **none)
    bad = SimpleNamespace(
        **dict(none, failure="no answer"), format=0.0, task=0.0, map=0.0
    )
    reward_plots.reward_bars([good, bad], ax, ["good", "bad"])
    ends = [bar.get_x() + bar.get_width() for bar in ax.containers[-1]]
    assert ends == [2.5, 0.0]
    assert [t.get_text() for t in ax.texts] == ["no answer"]


def test_reward_vs_error_draws_one_line_per_scorer(ax):
    curve = [(0, 1.0, 1.0, 1.0), (1, 0.9, 0.8, 0.95)]
    reward_plots.reward_vs_error({"released": curve, "aligned": curve}, ax)
    np.testing.assert_allclose(ax.lines[0].get_xydata(), [(0, 1), (1, 0.9)])
    assert len(ax.lines) == 2 and len(ax.collections) == 2


def test_training_curves_pass_over_rows_without_a_value(two_axes):
    log = [
        {"step": 1, "rewards/task/mean": 0.2, "reward": 1.0},
        {"step": 2, "rewards/task/mean": 0.4, "reward": 1.5},
        {"step": 2, "train_runtime": 9.0},
        {"step": 3, "frac_reward_zero_std": 0.5},
        {"step": 4, "frac_reward_zero_std": 0.25, "map_hit_rate": 0.75},
    ]
    training_plots.training_curves(log, two_axes)
    lines = {line.get_label(): line.get_ydata().tolist() for line in two_axes[0].lines}
    assert lines == {"task": [0.2, 0.4], "total": [1.0, 1.5]}
    shares = {line.get_label(): line.get_ydata().tolist() for line in two_axes[1].lines}
    assert shares == {"map hits": [75.0], "groups without advantage": [50.0, 25.0]}
    assert "%" in two_axes[1].get_ylabel()


@pytest.mark.filterwarnings("error")
def test_training_curves_of_a_baseline(two_axes):
    log = [
        {"step": 1, "loss": 2.0, "mean_token_accuracy": 0.25},
        {"step": 2, "loss": 1.5, "mean_token_accuracy": 0.5, "rewards/accuracies": 1.0},
    ]
    training_plots.training_curves(log, two_axes)
    assert two_axes[0].lines[0].get_ydata().tolist() == [2.0, 1.5]
    right = {line.get_label(): line.get_ydata().tolist() for line in two_axes[1].lines}
    assert right == {"tokens": [25.0, 50.0], "pairs": [100.0]}


@pytest.mark.filterwarnings("error")
def test_training_curves_of_a_run_that_has_only_begun(two_axes):
    training_plots.training_curves([{"step": 1, "loss": 0.5}], two_axes)
    assert two_axes[1].get_legend() is None


def summary(score):
    return pd.DataFrame(
        [
            dict(
                level="question_type",
                name=name,
                n=10,
                score=score,
                score_low=score - 0.1,
                score_high=score + 0.05,
            )
            for name in ("object_counting", "object_rel_distance")
        ]
        + [
            dict(
                level="overall",
                name="overall",
                n=20,
                score=score,
                score_low=score,
                score_high=score,
            )
        ]
    )


def test_accuracy_bars_carry_intervals_and_lie_over_the_floor(ax):
    tables = {"own": summary(0.8), "other": summary(0.4)}
    evaluation_plots.accuracy_bars(tables, ax, floors=summary(0.3))
    floor, own, other = [c for c in ax.containers if hasattr(c, "patches")]
    assert [bar.get_height() for bar in floor] == pytest.approx([30, 30])
    assert [bar.get_height() for bar in own] == pytest.approx([80, 80])
    (stem,) = own.errorbar[2]
    assert stem.get_segments()[0][:, 1] == pytest.approx([70, 85])
    for a, b in zip(own, other, strict=True):  # side by side
        assert a.get_x() + a.get_width() <= b.get_x() + 1e-9
    assert ax.get_xticklabels()[0].get_text().endswith("n = 10")


@pytest.mark.parametrize("spaces, marked", [(19, True), (20, False)])
def test_bars_and_forests_mark_intervals_of_few_rooms(ax, spaces, marked):
    evaluation_plots.accuracy_bars({"own": summary(0.8).assign(spaces=spaces)}, ax)
    assert ("few rooms" in ax.get_xticklabels()[0].get_text()) is marked
    change = {"level": "macro", "name": "macro", "measure": "score", "n": 30}
    change |= {"delta": 0.1, "low": -0.1, "high": 0.3, "spaces": spaces}
    table = pd.DataFrame([{**change, "verdict": "not distinguishable"}])
    evaluation_plots.delta_forest(table, ax)
    assert ("few rooms" in ax.get_yticklabels()[0].get_text()) is marked


def test_delta_forest_draws_percentage_points_and_verdicts(ax):
    table = pd.DataFrame(
        [
            dict(
                level="question_type",
                name="object_counting",
                measure="score",
                n=9,
                delta=0.2,
                low=0.1,
                high=0.3,
                verdict="up",
            ),
            dict(
                level="kind",
                name="object_counting",
                measure="score",
                n=9,
                delta=-0.01,
                low=-0.1,
                high=0.1,
                verdict="not distinguishable",
            ),
            dict(
                level="overall",
                name="overall",
                measure="hits",
                n=9,
                delta=0.9,
                low=0.8,
                high=1.0,
                verdict="up",
            ),
        ]
    )
    evaluation_plots.delta_forest(table, ax)
    assert by_gid(ax, "up")[0].get_xdata() == pytest.approx([20])
    assert by_gid(ax, "not")[0].get_xdata() == pytest.approx([-1])
    labels = [t.get_text() for t in ax.get_yticklabels()]
    assert labels == ["counting, n = 9", "counting (kind), n = 9"]


def test_study_forest_draws_every_seed_beside_the_pooled_gain(ax):
    gain = {"score": [0.1, 0.05, 0.15]}
    study = {
        "arms": {"map": gain, "no_map": {"score": [0.0, -0.1, 0.1]}},
        "runs": [{"arm": "map", "delta": gain, "seed": seed} for seed in (0, 1)],
        "settings": {"questions": 6},
    }
    evaluation_plots.study_forest(study, ax)
    assert [p.get_xdata()[0] for p in by_gid(ax, "pooled")] == pytest.approx([10, 0])
    assert len(by_gid(ax, "seed")) == 2
    assert [t.get_text() for t in ax.get_yticklabels()] == ["map", "no_map"]
    assert ax.get_title() == "n = 6 questions x 2 seeds"


def test_selection_histogram_shows_what_stays(ax):
    training_plots.selection_histogram({0: 3, 1: 2, 2: 4}, ax, kept={0: 1, 1: 2, 2: 0})
    heights = [bar.get_height() for bar in ax.patches]
    assert heights == [3, 2, 4, 1, 2, 0]
    assert "n = 9 rows" in ax.get_title() and "of 2" in ax.get_xlabel()


def test_label_strip_colours_what_is_taught(ax):
    training_plots.label_strip(["a", "b", "c"], [False, True, True], ax, per_line=2)
    assert [t.get_text() for t in ax.texts] == ["a", "b", "c"]
    assert [p.get_gid() for p in ax.patches] == ["given", "taught", "taught"]
    assert ax.patches[2].get_xy() == (0, -1)  # the next line


def test_curves_of_the_baselines_pass_over_what_was_not_logged(two_axes):
    rows = [{"step": 1, "loss": 2.0, "mean_token_accuracy": 0.5}, {"step": 2}]
    training_plots.sft_curves(rows, two_axes)
    assert two_axes[1].lines[0].get_ydata() == pytest.approx([50])
    pair = {"rewards/margins": 0.1, "logps/chosen": -3.0, "logps/rejected": -5.0}
    training_plots.dpo_curves([{"step": 1, **pair}], two_axes)
    assert two_axes[0].lines[-1].get_ydata() == pytest.approx([0.1])
    sides = {line.get_label(): line.get_ydata()[0] for line in two_axes[1].lines}
    assert (sides["chosen"], sides["rejected"]) == (-3, -5)


@pytest.mark.parametrize("path", DRAWING, ids=lambda path: path.stem)
def test_plots_never_load_save_or_show(path):
    source = path.read_text(encoding="utf-8")
    called = {
        ast.unparse(node.func).rsplit(".", 1)[-1]
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Call)
    }
    assert not called & {"open", "read_json", "read_text", "savefig", "show", "load"}
    assert "pyplot" not in source


# ---------------------------------------------------------------- question types


def test_each_registered_type_is_drawn_in_one_family():
    listed = [name for names in kind_plots.FAMILIES.values() for name in names]
    assert sorted(listed) == sorted(QUESTION_TYPES)
    assert set(kind_plots._DRAWINGS) == set(QUESTION_TYPES)


ASKED_BY = Rules(abs_distance="exact", order_gap_s=0.2)


def drawn_questions(seeds, families):
    """(question, why) of the first question of each type about each room."""
    for seed in seeds:
        drawn = draw_room(seed)
        footage = walk_footage(drawn, to_scene(drawn).instances)
        scene = to_scene(drawn, VIEWS["walk"], footage=footage)
        for name in (name for f in families for name in kind_plots.FAMILIES[f]):
            rng = np.random.default_rng(seed)
            found = QUESTION_TYPES[name].generator(scene, rng, ASKED_BY)
            draft = next((q for q in found if isinstance(q, Draft)), None)
            if draft is not None:
                axes = [Figure().subplots()]
                why = kind_plots.question_panels([draft], scene, axes, None, ASKED_BY)
                yield draft, why[name]


def numbers(text):
    return [float(number) for number in re.findall(r"-?\d+\.?\d*", text)]


MEASURED = {
    "object_counting": sum,
    "object_counting_multiple": sum,
    "object_size_estimation": max,
    "object_abs_distance": max,
    "camera_displacement": max,
    "camera_object_distance": max,
}


def test_what_is_said_beside_a_picture_gives_the_answer():
    checked = Counter()
    families = [name for name in kind_plots.FAMILIES if name != "single pictures"]
    for draft, why in drawn_questions(range(6), families):
        kind, answer = draft.question_type, kind_plots._words(draft)
        if kind in MEASURED:
            value = MEASURED[kind](numbers(why.partition(":")[2] or why))
            assert value == pytest.approx(float(answer), abs=0.0551), (draft, why)
        elif kind.endswith(("_distance", "_farthest", "_comparison")):
            named = why.partition(": ")[2].split(", ")
            metres = {part.rsplit(" ", 2)[0]: numbers(part)[-1] for part in named}
            least = kind in ("object_rel_distance", "camera_object_rel_distance")
            assert (min if least else max)(metres, key=metres.get) == answer
        elif "direction" in kind or kind == "view_change":
            (turn,), side = numbers(why)[-1:], "left" if "the left" in why else "right"
            far = "front" if turn < 90 else "back"
            along = "forward" if turn < 45 else "backward" if turn > 135 else side
            expected = {
                "hard": f"{far}-{side}",
                "medium": "back" if turn > 135 else side,
                "direction": along,
            }
            assert answer == expected.get(kind.rpartition("_")[2], side), (draft, why)
        elif "order" in kind:
            ranked = [part.rsplit(" ", 2)[0] for part in why[12:].split(", ")]
            assert ", ".join(ranked) == answer
        elif kind == "camera_object_distance_change":
            before, after = numbers(why)
            assert answer == ("closer" if after < before else "farther")
        else:
            continue
        checked[kind] += 1
    assert len(checked) >= 24


def test_letters_are_in_the_places_of_the_picture():
    """A question about left and right: the letters of both, in this order."""
    shown = 0
    for seed in range(6):
        drawn = draw_room(seed)
        footage = walk_footage(drawn, to_scene(drawn).instances)
        scene = to_scene(drawn, VIEWS["walk"], footage=footage)
        found = QUESTION_TYPES["frame_left_right"].generator(
            scene, np.random.default_rng(seed), ASKED_BY
        )
        draft = next((q for q in found if isinstance(q, Draft)), None)
        if draft is None:
            continue
        ax = Figure().subplots()
        kind_plots.question_panels([draft], scene, [ax], None, ASKED_BY)
        across = {text.get_text(): text.xy[0] for text in ax.texts}
        looks = category_styles(draft.categories)
        first, second = (across[looks[name][1]] for name in draft.categories)
        assert kind_plots._words(draft) == ("left" if first < second else "right")
        shown += 1
    assert shown > 2


def test_questions_need_axes():
    ((draft, _),) = list(drawn_questions([5], ["counts and sizes"]))[:1]
    with refused("pictures.too-few-axes", says="0 axes"):
        kind_plots.question_panels([draft], to_scene(draw_room(5)), [])


def test_answers_that_differ_from_the_largest_budgets_stand_out(ax):
    draft = Draft("object_counting", "numerical", "", None, "3", ("chair",))
    one = BudgetAnswers(draft, {8: "2", 32: "3"}, {16: "small"})
    question_plots.budget_answers([one], ax)
    look = {t.get_position()[0]: (t.get_text(), t.get_weight()) for t in ax.texts}
    assert look == {0: ("2", "bold"), 1: ("-", "normal"), 2: ("3", "normal")}
    assert [t.get_text() for t in ax.get_xticklabels()] == ["8", "16", "32"]


# ---------------------------------------------------------------- answers beside maps


def test_share_dots_leave_out_what_has_no_say(ax):
    records = [
        ("counting", "follows", 4, 0.5, 0.25, 0.75),
        ("counting", "true_suffices", 6, 1.0, 1.0, 1.0),
        ("overall", "follows", 9, 0.2, 0.1, 0.4),
        ("distance", "right", 9, 0.2, 0.1, 0.4),
    ]
    columns = ["name", "measure", "n", "value", "low", "high"]
    evaluation_plots.share_dots(pd.DataFrame(records, columns=columns), ax)
    assert [p.get_xdata()[0] for p in by_gid(ax, "follows")] == [50, 20]
    assert [p.get_xdata()[0] for p in by_gid(ax, "true_suffices")] == [100]
    labels = [t.get_text() for t in ax.get_yticklabels()]
    assert labels == ["counting, n ≤ 6", "overall, n ≤ 9"]


def test_failure_bars_add_up_to_all_questions(ax):
    labels = ["right", "right", "perception", "reasoning", "right"]
    kinds = ["object_counting"] * 4 + ["object_rel_distance"]
    table = pd.DataFrame({"question_type": kinds, "label": labels})
    evaluation_plots.failure_bars(table, ax)
    widths = {
        label: [bar.get_width() for bar in ax.patches if bar.get_gid() == label]
        for label in ("right", "perception", "reasoning")
    }
    assert widths == {"right": [50, 100], "perception": [25, 0], "reasoning": [25, 0]}
    ticks = [t.get_text() for t in ax.get_yticklabels()]
    assert ticks == ["counting, n = 4", "rel. distance, n = 1"]


def test_every_failure_has_its_colour():
    assert set(evaluation_plots._FAILURE_COLORS) == set(FAILURES)
    assert len(set(evaluation_plots._FAILURE_COLORS.values())) == len(FAILURES)


def test_words_against_score_has_a_point_a_run(ax):
    table = pd.DataFrame(
        {
            "n": [4, 4],
            "words": [1.0, 3.0],
            "words_low": [0.5, 2.0],
            "words_high": [2.0, 4.0],
            "score": [0.25, 0.5],
        },
        index=["start", "end"],
    )
    evaluation_plots.words_against_score(table, ax)
    points = [bar.lines[0].get_xydata().tolist() for bar in ax.containers]
    assert points == [[[1, 25]], [[3, 50]]]
    assert [bar.get_label() for bar in ax.containers] == ["start, n = 4", "end, n = 4"]


@pytest.mark.parametrize(
    ("vary", "at"), [("prompt", (200, 1100)), ("group", (2, 8)), ("completion", (400,))]
)
def test_ratios_of_shared_prompts_beside_the_law(ax, vary, at):
    base = {"model": "small", "prompt": 1100, "completion": 400, "group": 8}

    def bench(ratio, **changes):
        seconds = {"shared": 2.0, "a row to a forward": 2.0 * ratio, "stock batch": 9.0}
        return {**base, **changes, "seconds": {"update": seconds}}

    runs = [bench(3, prompt=1100), bench(2, prompt=200), bench(1.5, group=2)]
    runs.append(bench(9, prompt=200, group=2))  # differs in two: not drawn
    training_plots.shared_prefix_ratios(runs, vary, ax)
    law, measured, batch = ax.get_lines()
    assert tuple(measured.get_xdata()) == tuple(batch.get_xdata()) == at
    assert measured.get_ydata()[-1] == 3 and set(batch.get_ydata()) == {4.5}
    assert law.get_ydata()[-1] == pytest.approx(8 * 1500 / (1100 + 8 * 400))
    assert len(ax.get_legend().get_texts()) == 3 and "(" not in ax.get_title()


DRAWN = {
    "line": lambda ax, last: ax.plot([0, 1, 2], [1, 2, last]),
    "long line": lambda ax, last: ax.plot(range(50), [0] * 49 + [last]),
    "bars": lambda ax, last: ax.bar([0, 1], [1, last]),
    "points": lambda ax, last: ax.scatter([0, 1], [1, last]),
    "area": lambda ax, last: ax.fill_between([0, 1], [1, last]),
    "image": lambda ax, last: ax.imshow([[0, 1], [2, last]]),
    "text": lambda ax, last: ax.text(0, 0, f"{last:.2f}"),
    "title": lambda ax, last: ax.set_title(f"n = {last}"),
}


@pytest.mark.parametrize("kind", DRAWN)
def test_the_data_behind_a_figure_tell_every_number(kind):
    """And the picture's size and style do not matter."""

    def text(last, **figure):
        made = Figure(**figure)
        DRAWN[kind](made.subplots(), last)
        return figure_data(made)

    assert text(4.0) == text(4.0, dpi=200, figsize=(9, 2)) != text(4.1)
    assert len(text(4.0)) < 300
