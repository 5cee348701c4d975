"""Bonuses that compare a group with its control: T-GRPO's and the counterfactual."""

from dataclasses import replace

import pytest
import torch
from support import refused

from spacer_lib.language.tags import write_completion
from spacer_lib.training import step
from spacer_lib.training.assembly import build_trainer, training_arguments
from spacer_lib.training.batches import Completions


@pytest.fixture
def answering(monkeypatch):
    """``answering(policy)``: completions answer ``policy(row, place, purpose)``.

    Returns what is drawn: ``(purpose, round, rows, video settings)`` each.
    """

    def begin(policy):
        draws = []

        def draw(trainer, batch, purpose, extra_round=0):
            draws.append((purpose, extra_round, batch.rows, batch.video))
            texts = [
                write_completion(policy(row, place, purpose), "so")
                for place, row in enumerate(batch.rows)
            ]
            tokenizer = trainer.processing_class.tokenizer
            ids = tokenizer(texts, add_special_tokens=False)["input_ids"]
            return Completions([i + [tokenizer.eos_token_id] for i in ids], texts)

        monkeypatch.setattr(step, "draw", draw)
        return draws

    return begin


@pytest.fixture
def earned(monkeypatch):
    """``earned(trainer, name, numbers)``: a component of each completion."""

    def roll(trainer, name, numbers):
        found = []
        monkeypatch.setattr(step, "log_rewards", lambda _, all_: found.append(all_))
        trainer.roll_out(numbers)
        place = trainer.reward_func_names.index(name)
        return found[0].components[:, place].tolist(), found[0].metrics

    return roll


def counting(number, chairs, **changes):
    """How many chairs? In a room of its own, which has so many."""
    return {
        "id": str(number),
        "scene_name": f"room{number}",
        "question_type": "object_counting",
        "problem_type": "numerical",
        "question": "How many chair(s) are in this room?",
        "options": None,
        "ground_truth": str(chairs),
        "categories": ["chair"],
        "map": {"chair": [[i, 0] for i in range(chairs)], "bed": [[5, 5]]},
        "video": f"room://new/{number}",
    } | changes


ROOMS = [counting(0, 2), counting(1, 2), counting(2, 5), counting(3, 9)]


def true_of_video(row, *_):
    return row["ground_truth"]


# ---------------------------------------------------------------- T-GRPO


def test_temporal_bonus_compares_with_shuffled_frames(
    small, tmp_path, answering, earned
):
    own = "2933" + "5999"  # groups about 2 and 5 chairs
    shuffled = "22" + "99"

    def policy(row, place, purpose):
        return (shuffled if purpose == "temporal" else own)[place]

    draws = answering(policy)
    trainer = build_trainer(small(temporal_bonus=0.3), tmp_path, rows=ROOMS)
    bonus, metrics = earned(trainer, "temporal", [0, 2])
    seen = [(name, len(rows), video.shuffle) for name, _, rows, video in draws]
    assert seen == [("temporal", 4, 1), ("rollout", 8, None)]
    # Group 0: shuffled answers did better (mean 1 against 1/4): nothing.
    # Group 1: ordered ones did: its right answer earns the bonus.
    assert bonus == pytest.approx([0, 0, 0, 0, 0.3, 0, 0, 0])
    assert metrics["left_out/no_video"] == [0.0]


def test_shuffled_frames_are_the_same_frames_in_another_order(small, rows, tmp_path):
    trainer = build_trainer(small(), tmp_path, rows=rows)
    video = replace(trainer.source.video, shuffle=3)
    ordered, other = trainer.source.load([0]), trainer.source.load([0], video=video)
    assert ordered.prompt_ids == other.prompt_ids
    own, shuffled = (b.media[0]["pixel_values_videos"] for b in (ordered, other))
    assert own.shape == shuffled.shape and not torch.equal(own, shuffled)
    # A patch holds two frames side by side; sums over frames are the same.
    torch.testing.assert_close(own.sum(), shuffled.sum(), rtol=1e-4, atol=1e-2)


# ---------------------------------------------------------------- counterfactual


def counterfactual(small, tmp_path, rows=ROOMS, **changes):
    config = small(counterfactual_bonus=2.0, **changes)
    return build_trainer(config, tmp_path, rows=rows)


def test_counterfactual_bonus_by_hand(small, tmp_path, answering, earned):
    own = "2295" + "2229"  # groups about 2 and 9 chairs
    beside = "52" + "99"

    def policy(row, place, purpose):
        return (beside if purpose == "counterfactual" else own)[place]

    draws = answering(policy)
    bonus, metrics = earned(counterfactual(small, tmp_path), "counterfactual", [0, 3])
    # Of room 0 the control sees room 2, since room 1 has as many chairs; of room 3 the
    # first room again.
    (name, _, shown, video), (_, _, asked, _) = draws
    assert name == "counterfactual" and video.shuffle is None
    assert [row["video"] for row in shown] == ["room://new/2"] * 2 + [
        "room://new/0"
    ] * 2
    assert [row["ground_truth"] for row in shown] == ["5", "5", "2", "2"]
    assert [row["id"] for row in shown] == ["0", "0", "3", "3"]
    assert [row["video"] for row in asked[::4]] == ["room://new/0", "room://new/3"]
    # Group 0: the right answer 2 changes beside one of two; others are wrong.
    # Group 1: 2 is wrong, and 9 is the answer beside both.
    assert bonus == [1, 1, 0, 0, 0, 0, 0, 0]
    assert {name: values for name, values in metrics.items() if "left_out" in name} == {
        f"left_out/{reason}": [0.0]
        for reason in (
            "no_video",
            "not_in_map",
            "no_scale",
            "unread_question",
            "no_other_answer",
        )
    }


@pytest.mark.parametrize(
    ("policy", "paid"),
    [
        (true_of_video, [2.0] * 8),
        (lambda *_: "2", [0.0] * 8),  # right of the first, and blind
        (lambda row, *_: {"0": "2", "3": "9"}[row["id"]], [0.0] * 8),  # knows the words
        (lambda row, *_: str(int(row["ground_truth"]) + 20), [0.0] * 8),  # wrong of all
        (lambda *_: "none", [0.0] * 8),
    ],
    ids=["sees", "constant", "words alone", "wrong", "unread"],
)
def test_only_who_sees_the_video_earns_the_bonus(
    small, tmp_path, answering, earned, policy, paid
):
    answering(policy)
    bonus, _ = earned(counterfactual(small, tmp_path), "counterfactual", [0, 3])
    assert bonus == paid


LEFT_OUT = {
    "no_video": counting(9, 2, video=None),
    "not_in_map": counting(9, 2, question_type=None, map=None),
    "no_scale": counting(9, 2, question_type="object_abs_distance"),
    "no_other_answer": counting(9, 1, categories=["bed"]),
}


@pytest.mark.parametrize("reason", LEFT_OUT)
def test_a_question_without_another_answer_is_left_out_and_counted(
    small, tmp_path, answering, earned, reason
):
    rows = [*ROOMS, LEFT_OUT[reason]]
    draws = answering(true_of_video)
    trainer = counterfactual(small, tmp_path, rows)
    bonus, metrics = earned(trainer, "counterfactual", [0, 4])
    assert bonus[:4] == [2.0] * 4 and all(value != value for value in bonus[4:])
    assert metrics[f"left_out/{reason}"] == [0.5]
    assert sum(sum(v) for name, v in metrics.items() if "left_out" in name) == 0.5
    assert draws[0][2][2:] == [rows[4]] * 2  # asked as it is, for the ranks' sake


def test_without_a_bonus_no_control_is_drawn(small, tmp_path, answering, earned):
    draws = answering(true_of_video)
    trainer = build_trainer(small(), tmp_path, rows=ROOMS)
    _, metrics = earned(trainer, "task", [0, 3])
    assert [draw[0] for draw in draws] == ["rollout"] and trainer.bonus is None
    assert not {"counterfactual", "temporal"} & set(trainer.reward_func_names)
    assert not [name for name in metrics if "left_out" in name]


def test_a_control_takes_none_of_a_rooms_uses(small, tmp_path, answering):
    answering(true_of_video)
    trainer = counterfactual(small, tmp_path, rows=[ROOMS[0], ROOMS[3]])
    uses = trainer.source._uses._left  # each room is the other's control
    before = dict(uses)
    trainer.roll_out([0])
    used = {name[0][1]: before[name] - uses[name] for name in before}
    assert used["room://new/0"] > 0 and used["room://new/3"] == 0


def test_a_refill_has_a_control_of_its_own(small, tmp_path, answering):
    draws = answering(true_of_video)  # all alike: every group is replaced
    counterfactual(small, tmp_path, refill=2).roll_out([0, 3])
    assert [draw[:2] for draw in draws] == [
        (name, number) for number in range(3) for name in ("counterfactual", "rollout")
    ]


def test_a_room_whose_video_cannot_be_read_is_passed_by(
    small, tmp_path, answering, earned, capsys
):
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"no video")
    rows = [*ROOMS, *(counting(number, 4) for number in range(4, 12))]
    rows[2] = {**rows[2], "video": str(broken)}
    draws = answering(true_of_video)
    trainer = counterfactual(small, tmp_path, rows)
    bonus, _ = earned(trainer, "counterfactual", [0, 3])
    assert "skipped from now on" in capsys.readouterr().out
    assert draws[0][2][0]["video"] == "room://new/3" and bonus == [2.0] * 8


def test_scans_of_one_room_are_no_other_room(small, tmp_path, answering):
    scans = [
        counting(number, chairs, scene_name=name)
        for number, (chairs, name) in enumerate(
            [(2, "scene0001_00"), (3, "scene0001_01"), (4, "scene0002_00")]
        )
    ]
    draws = answering(true_of_video)
    counterfactual(small, tmp_path, scans).roll_out([0, 2])
    assert [row["ground_truth"] for row in draws[0][2]] == ["4", "4", "2", "2"]


@pytest.mark.parametrize(
    "rows", [ROOMS[:1] * 3, [ROOMS[0], counting(1, 3, map=None)]], ids=["1", "no map"]
)
def test_one_room_has_no_other(small, tmp_path, rows):
    with refused("training.one-room", says="1 room"):
        counterfactual(small, tmp_path, rows)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"counterfactual_bonus": 1.0, "temporal_bonus": 0.3}, "temporal_bonus"),
        ({"counterfactual_bonus": 1.0, "num_generations": 3}, "even"),
        ({"temporal_bonus": 1.0, "num_generations": 3}, "even"),
        ({"counterfactual_bonus": -1.0}, "0 or more"),
    ],
)
def test_settings_of_a_control_are_checked(small, changes, says):
    with refused("training.setting-value", says=says):
        small(**changes)


def test_a_control_is_half_of_what_each_worker_draws(small):
    config = small(counterfactual_bonus=1.0, num_generations=2, prompts_per_step=3)
    with refused("training.cut-groups", says="3 completions"):
        training_arguments(config, "unused", workers=2)
    training_arguments(config, "unused", workers=1)
