"""Floors: counted away from the answer's own room, and the strongest of each task."""

from collections import Counter

import numpy as np
import pytest
from support import refused

from spacer_lib.benchmarks.rules import strict
from spacer_lib.evaluation.floors import COUNTED, Floor, counted, floors, strongest
from spacer_lib.evaluation.predictions import record
from spacer_lib.evaluation.statistics import summarize
from spacer_lib.rewards.metrics import mean_relative_accuracy

LETTERS = "ABCD"


def number(room, truth, asked="chair", task="object_counting"):
    return {
        "id": f"{task}/{room}/{asked}",
        "scene_name": f"scene{room:04d}_00",
        "question_type": task,
        "problem_type": "regression" if "distance" in task else "numerical",
        "question": f"How many {asked}(s) are in this room?",
        "options": None,
        "ground_truth": str(truth),
    }


def choice(room, words, right, task="object_rel_distance"):
    options = [
        f"{letter}. {word}" for letter, word in zip(LETTERS, words, strict=False)
    ]
    return {
        **number(room, LETTERS[list(words).index(right)], "door", task),
        "problem_type": "multiple choice",
        "options": options,
    }


def distances(count=60):
    """Skewed metres with one decimal; the most frequent one is small."""
    rng = np.random.default_rng(0)
    truths = [0.4 if i % 5 == 0 else round(rng.uniform(1, 4), 1) for i in range(count)]
    return [number(i, t, task="object_abs_distance") for i, t in enumerate(truths)]


def test_the_constant_is_the_best_answer_under_the_tasks_own_scorer():
    rows = distances()
    floor = Floor("constant", rows)
    for row in rows[:6]:
        others = [float(r["ground_truth"]) for r in rows if r is not row]

        def worth(answer, others=others):
            return np.mean([mean_relative_accuracy(answer, truth) for truth in others])

        best = max(worth(answer) for answer in np.arange(0.1, 4.5, 0.02))
        assert worth(float(floor.answer(row))) == pytest.approx(best, abs=0.015)
        assert Floor("majority", rows).answer(row) == "0.4"
        assert best > 1.5 * worth(0.4)


def test_an_answer_is_never_counted_in_its_own_room():
    """Fifty sevens in one room, whose two scans share it, and a two in two others."""
    rows = [number(0, 7, f"thing {i}") for i in range(50)]
    rows += [{**number(0, 7, "lamp"), "id": "scan 2", "scene_name": "scene0000_01"}]
    rows += [number(1, 2), number(2, 2)]
    for kind in COUNTED:
        floor = Floor(kind, rows)
        assert {floor.answer(row) for row in rows[:51]} == {"2"}
    # Nor in rows to train on that show the same room.
    floor = Floor("majority", rows[:1], train_rows=rows)
    assert floor.answer(rows[0]) == "2" and floor.name == "majority of training rows"


def test_categories_and_pairs_have_constants_of_their_own():
    rows = [number(room, 4, "chair") for room in range(12)]
    rows += [number(room, 1, "sofa") for room in range(12)]
    floor = Floor("category", rows)
    assert [floor.answer(rows[0]), floor.answer(rows[12])] == ["4", "1"]
    # One that was never asked elsewhere gets the task's.
    alone = number(3, 9, "piano")
    task = Floor("constant", [*rows, alone])
    assert Floor("category", [*rows, alone]).answer(alone) == task.answer(alone)
    # A pair is the same in both orders.
    ask = "from the {} to the {}"
    pairs = [number(i, 1, ask.format("a", "b")) for i in range(9)]
    pairs += [number(i, 3, ask.format("c", "d")) for i in range(9, 27)]
    turned = number(30, 1, ask.format("b", "a"))
    assert Floor("category", [*pairs, turned]).answer(turned) == "1"


def test_of_options_the_words_that_are_right_most_often_where_offered():
    rng, rows = np.random.default_rng(1), []
    for room in range(40):
        words = rng.permutation(["lamp", "sofa", "bin", "desk"])
        rows.append(choice(room, words, "bin" if room % 4 else "lamp"))
    floor = Floor("category", rows)
    letters = [row["options"][LETTERS.index(floor.answer(row))] for row in rows]
    assert {text[3:] for text in letters} == {"bin"}
    # Letters are shuffled, so that the most frequent one is right by chance.
    assert strongest(floors(rows)).names == {"object_rel_distance": "category"}


def mixed():
    rng = np.random.default_rng(2)
    rows = [number(i, 4 if i % 2 else 1, "cup" if i % 2 else "bed") for i in range(40)]
    return rows + [choice(i, "xy", rng.choice(["x", "x", "y"])) for i in range(40)]


def test_the_strongest_floor_is_the_best_of_each_task():
    rows = mixed()
    made = floors(rows)
    made["no video"] = [
        {**p, "score": 1.0 if "distance" in p["question_type"] else 0.0}
        for p in made["majority"]
    ]
    best = strongest(made)
    assert best.names == {
        "object_counting": "category",
        "object_rel_distance": "no video",
    }
    table = best.table.set_index(["level", "name"])
    for task, name in best.names.items():
        alone = summarize(made[name]).set_index(["level", "name"])
        columns = ["n", "score", "score_low", "score_high"]
        expected = alone.loc[("kind", task), columns].to_list()
        assert table.loc[("kind", task), columns].to_list() == pytest.approx(expected)
        assert table.loc[("kind", task), "strongest"] == name
        for other in made.values():
            scores = summarize(other).set_index(["level", "name"])["score"]
            assert table.loc[("kind", task), "score"] >= scores["kind", task] - 1e-12
    kinds = table.loc["kind", "score"]
    assert table.loc[("macro", "macro"), "score"] == pytest.approx(kinds.mean())
    assert table.loc[("macro", "macro"), "strongest"] == "each task's"
    with refused("evaluation.other-questions", says="short: 79 rows"):
        strongest({**made, "short": made["majority"][1:]})


def test_the_backend_answers_with_the_best_kind_of_each_task():
    rows = mixed()
    floor = Floor("strongest", rows)
    said = {kind: Floor(kind, rows) for kind in COUNTED}
    assert floor.chosen["object_counting"] == "category"
    assert floor.identity()["chosen"] == floor.chosen
    for row in rows:
        kind = floor.chosen[row["question_type"]]
        assert floor.answer(row) == said[kind].answer(row)


def test_floors_of_predictions_are_those_of_their_questions():
    rows = mixed()
    answers = [record(row, "1", strict) for row in rows]
    made = counted(answers, strict)
    assert list(made) == [f"{kind} of other rooms" for kind in COUNTED]
    expected = Floor("category", rows)
    said = [p["prediction"] for p in made["category of other rooms"]]
    assert said == [expected.answer(row) for row in rows]
    # One room, or predictions without their questions: nothing to count.
    assert counted([p for p in answers if "0001" in p["scene_name"]], strict) == {}
    bare = [{k: v for k, v in p.items() if k != "question"} for p in answers]
    assert counted(bare, strict) == {}


def test_frequency_draws_answers_as_often_as_they_occur():
    rows = [number(i, 2 if i % 4 else 5) for i in range(400)]
    floor = Floor("frequency", rows)
    said = Counter(floor.answer(row) for row in rows)
    assert said["2"] / 400 == pytest.approx(0.75, abs=0.07)  # three standard errors


def test_intervals_of_three_rooms_stay_between_0_and_1():
    rows = [number(i, 2) for i in range(3)]
    answers = [record(row, "2" if i else "9", strict) for i, row in enumerate(rows)]
    line = summarize(answers).set_index("level").loc["overall"]
    assert (line["score_low"], line["score_high"]) == (0, 1)


def test_a_floor_whose_scores_are_no_numbers_is_refused():
    """Every comparison with NaN is false: such a floor would never be the strongest."""
    made = floors(mixed())
    made["no video"] = [{**p, "score": float("nan")} for p in made["majority"]]
    with refused("evaluation.score-out-of-range", says="nan"):
        strongest(made)
