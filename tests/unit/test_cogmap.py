"""Maps: axes, text both ways, and scores against hand-worked cases and an oracle."""

import itertools
import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import refused

from spacer_lib.maps import scores as cogmap
from spacer_lib.maps.grid import rasterize, turned
from spacer_lib.maps.scores import SCORERS, chance_level, hits, score
from spacer_lib.maps.text import MAX_MAP_CHARS, map_to_text, normal_category, parse_map
from spacer_lib.rooms.scene import ObjectInstance, Scene, read_meta_file
from spacer_lib.rooms.synthetic.layout import draw_room
from spacer_lib.rooms.synthetic.views import to_scene

NAMES = ("chair", "table", "lamp", "trash bin", "bookshelf", "sofa", "computer mouse")
M = 10

cell = st.tuples(st.integers(0, M - 1), st.integers(0, M - 1))
maps = st.dictionaries(
    st.sampled_from(NAMES), st.lists(cell, min_size=1, max_size=5), min_size=1
)


def instance(index, category, x, y):
    return ObjectInstance(
        instance_id=index,
        category=category,
        centroid_m=(x, y, 0.5),
        axes_lengths_m=(1, 1, 1),
        axes=(1, 0, 0, 0, 1, 0, 0, 0, 1),
        aabb_min_m=(x - 0.5, y - 0.5, 0),
        aabb_max_m=(x + 0.5, y + 0.5, 1),
    )


def scene(*objects, floor=((0, 0), (10, 5))):
    return Scene(
        scene_id="scene0000_00",
        dataset="made up",
        room_size_m2=50.0,
        instances=[instance(i, *o) for i, o in enumerate(objects)],
        room_center_m=(5, 2.5, 0),
        floor_min_m=floor[0],
        floor_max_m=floor[1],
    )


# ------------------------------------------------------------------ rasterising


def test_columns_grow_with_x_and_rows_with_y():
    """The one test of the axes: 10 m x 5 m of floor, cells of 1 m x 0.5 m."""
    room = scene(("lamp", 9.5, 0.1), ("table", 0.5, 4.9), ("sofa", 3.2, 1.6))
    assert rasterize(room) == {"lamp": [(9, 0)], "table": [(0, 9)], "sofa": [(3, 3)]}


def test_the_floor_may_start_anywhere():
    room = scene(("lamp", -4.0, -0.5), floor=((-5, -1), (5, 1)))
    assert rasterize(room) == {"lamp": [(1, 2)]}


def test_cells_at_and_beyond_the_border_are_clipped():
    room = scene(("a", 10.0, 5.0), ("b", -3.0, 99.0), ("c", 0.0, 0.0))
    assert rasterize(room) == {"a": [(9, 9)], "b": [(0, 9)], "c": [(0, 0)]}


def test_categories_keep_their_order_and_cells_are_sorted():
    room = scene(
        ("lamp", 9.5, 0.1), ("chair", 5.5, 0.1), ("wall", 1, 1), ("chair", 1.5, 4.9)
    )
    cells = rasterize(room)
    assert list(cells) == ["lamp", "chair"]  # as first seen, and no wall
    assert cells["chair"] == [(1, 9), (5, 0)]


def test_the_grid_size_is_free():
    assert rasterize(scene(("a", 9.9, 2.6)), grid_size=2) == {"a": [(1, 1)]}


# ------------------------------------------------------------------ text


def test_text_is_compact_and_ends_as_told():
    cells = {"lamp": [(6, 8)], "chair": [(2, 5), (4, 4)], "bed": [(0, 0)]}
    plain = '{"bed":[[0,0]],"chair":[[2,5],[4,4]],"lamp":[[6,8]]}'
    assert map_to_text(cells) == plain
    ending = map_to_text(cells, last=("lamp", "bed", "absent", "lamp"))
    assert ending == '{"chair":[[2,5],[4,4]],"lamp":[[6,8]],"bed":[[0,0]]}'


READABLE = [
    ('{"chair":[[2,5],[4,4]]}', {"chair": [(2, 5), (4, 4)]}, "strict JSON"),
    ("{'chair': [[2, 5]]}", {"chair": [(2, 5)]}, "Python's quotes"),
    ("{'chair': [(2, 5), (4, 4)],}", {"chair": [(2, 5), (4, 4)]}, "tuples, comma"),
    ("{'chair': ((2, 5),)}", {"chair": [(2, 5)]}, "a tuple of one"),
    ("{'chair': [2, 3]}", {"chair": [(2, 3)]}, "a flat pair is one instance"),
    ('{"chair": [2, 3]}', {"chair": [(2, 3)]}, "the same as JSON"),
    ('{"Chairs ": [[2,5]]}', {"chair": [(2, 5)]}, "case, space, plural"),
    ('{"trash_bins": [[2,5]]}', {"trash bin": [(2, 5)]}, "underscore"),
    ('{"a":[[1,1]],"a":[[2,2]]}', {"a": [(1, 1), (2, 2)]}, "repeated key: joined"),
    ('{"box":[[1,1]],"boxes":[[2,2]]}', {"box": [(1, 1), (2, 2)]}, "equal names"),
    ("{}", {}, "an empty map is a map"),
    ('{"a":[]}', {"a": []}, "no instance of a"),
    (' \n{"a":\t[[1,1]]}\n', {"a": [(1, 1)]}, "white space around"),
]


@pytest.mark.parametrize("text, cells, why", READABLE, ids=[r[2] for r in READABLE])
def test_readable_maps(text, cells, why):
    assert parse_map(text).map == cells
    assert parse_map(text).failure is None


UNREADABLE = [
    ("", "map_unreadable", "nothing"),
    ("chair: [2,5]", "map_unreadable", "no braces"),
    ("[[2,5]]", "map_unreadable", "a list is no dictionary"),
    ('{"a":[[1,2]]', "map_unreadable", "cut off"),
    ('{"a":[[1,2)]}', "map_unreadable", "brackets of two kinds"),
    ('{"a":[[1,2,3]]}', "map_unreadable", "three numbers are no cell"),
    ('{"a":[[1,2],3]}', "map_unreadable", "a cell beside a number"),
    ('{"a":[[1.0,2]]}', "map_unreadable", "not an integer"),
    ('{"a":[[true,2]]}', "map_unreadable", "a truth value is no integer"),
    ('{"a":[[NaN,2]]}', "map_unreadable", "not a number"),
    ('{"a":[["1","2"]]}', "map_unreadable", "texts"),
    ('{"a":{"b":[1,2]}}', "map_unreadable", "nested dictionary"),
    ('{"a":{"x":1,"y":2}}', "map_unreadable", "named coordinates"),
    ("{1:[[1,2]]}", "map_unreadable", "a number as name"),
    ("{'a':[[1 2, 3]]}", "map_unreadable", "1 2 is not 12"),
    ("{'a':[[1,,2]]}", "map_unreadable", "two commas"),
    ("{'a':[,]}", "map_unreadable", "a comma alone"),
    ("{'a' 'b':[[1,2]]}", "map_unreadable", "texts do not join"),
    ("{'a':[[0x1,2]]}", "map_unreadable", "other bases"),
    ("{'a':[[1+1,2]]}", "map_unreadable", "nothing is evaluated"),
    ("{'a':__import__('os')}", "map_unreadable", "nothing is evaluated"),
    ('{"a":[[[[1,2]]]]}', "map_unreadable", "too deep"),
    ("{" * 5000, "map_unreadable", "far too deep"),
    ("[" * 5000 + "]" * 5000, "map_unreadable", "far too deep, balanced"),
    ('{"a":[[1,10]]}', "map_off_grid", "rows end at 9"),
    ('{"a":[[-1,1]]}', "map_off_grid", "below 0"),
    ('{"a":[[1,1]],"b":[[99,0]]}', "map_off_grid", "one spoils the map"),
    ('{"a":[[1,' + "9" * 6000 + "]]}", "map_off_grid", "an endless integer"),
    ('{"a":[' + "[1,2]," * 2000 + "[1,2]]}", "map_too_long", "12,000 characters"),
]


@pytest.mark.parametrize(
    "text, failure, why", UNREADABLE, ids=[r[2] for r in UNREADABLE]
)
def test_unreadable_maps(text, failure, why):
    assert parse_map(text).failure == failure
    assert parse_map(text).map is None


def test_the_grid_decides_what_is_off_it():
    assert parse_map('{"a":[[19,0]]}', grid_size=20).map == {"a": [(19, 0)]}


@given(maps, st.lists(st.sampled_from(NAMES), max_size=3))
def test_reading_undoes_writing(cells, last):
    text = map_to_text(cells, last)
    assert parse_map(text).map == cells
    as_tuples = {name: list(map(tuple, spots)) for name, spots in cells.items()}
    assert parse_map(repr(as_tuples)).map == cells
    assert parse_map(json.dumps(cells, indent=2)).map == cells


@settings(max_examples=500)
@given(st.text(max_size=60) | st.text("{}[]()'\",:0123456789- ae\\", max_size=40))
def test_no_text_raises(text):
    reading = parse_map(text)
    assert (reading.map is None) == (reading.failure is not None)


@pytest.mark.parametrize("unit", ["{", "[1,2],", "9", "'", "-", " ", "\\", '{"a":'])
def test_a_megabyte_is_refused_by_its_length(unit):
    text = unit * (1_000_000 // len(unit))
    assert len(text) > MAX_MAP_CHARS
    assert parse_map(text).failure == "map_too_long"


@pytest.mark.parametrize(
    ("name", "normal"),
    [
        ("Bookshelves", "bookshelf"),
        ("trash_bins", "trash bin"),
        ("chair(s)", "chair"),
        ("couches", "couch"),
        ("glass", "glass"),
    ],
)
def test_a_category_has_one_spelling(name, normal):
    assert normal_category(name) == normal


def test_every_real_category_is_its_own_normal_form(real_meta):
    for room in read_meta_file(real_meta):
        for category in room.by_category():
            assert normal_category(category) == category
            assert normal_category(category + "s") == category


# ------------------------------------------------------------------ scores

DIAGONAL = M * math.sqrt(2)
E1 = math.exp(-1 / 1.5)  # worth of a miss by one cell, in `decay`
D1 = 1 - 1 / DIAGONAL  # the same in the published scoring

SCORED = [
    # predicted, true, (released, paper, decay), why
    ({"a": [(1, 1)]}, {"a": [(1, 1)]}, (1, 1, 1), "perfect"),
    ({}, {"a": [(1, 1)]}, (0, 0, 0), "nothing drawn"),
    ({"a": []}, {"a": [(1, 1)]}, (0, 0, 0), "an empty list"),
    ({"b": [(1, 1)]}, {"a": [(1, 1)]}, (0, 0, 0), "another category"),
    ({"a": [(1, 2)]}, {"a": [(1, 1)]}, (D1, D1, E1), "one cell off"),
    (
        {"a": [(9, 9)]},
        {"a": [(0, 0)]},
        (0.1, 0.1, math.exp(-9 * math.sqrt(2) / 1.5)),
        "opposite corners: d / (M√2) = 0.9",
    ),
    ({"a": [(1, 1)], "b": [(5, 5)]}, {"a": [(1, 1)]}, (1, 1, 1), "extra category"),
    (
        {"a": [(1, 1)]},
        {"a": [(1, 1)], "b": [(5, 5)] * 3},
        (0.25, 0.25, 0.25),
        "weights 1 and 3",
    ),
    ({"a": [(1, 1)]}, {"a": [(1, 1), (5, 5)]}, (0.5, 0.5, 0.5), "one of two missing"),
    (
        {"a": [(1, 1), (5, 5)]},
        {"a": [(1, 1)]},
        (0.5, 1, 0.5),
        "a surplus cell costs half, but nothing in Eq. 4",
    ),
    ({"As": [(1, 1)]}, {"a": [(1, 1)]}, (1, 1, 1), "plural and case"),
    # True cells at 0 and 2 on a line, drawn at 1 and 3. Every pair a step apart is a
    # tie: greedy takes the first in sorting order, 1-0, and is left with 3-2.
    ({"a": [(1, 0), (3, 0)]}, {"a": [(0, 0), (2, 0)]}, (D1, D1, E1), "a tie"),
    # True 0 and 3, drawn 2 and 6: greedy takes 2-3 first (1) and is left with 6-0 (6);
    # the least sum of distances pairs 2-0 and 6-3 (2 + 3).
    (
        {"a": [(2, 0), (6, 0)]},
        {"a": [(0, 0), (3, 0)]},
        (
            1 - 7 / DIAGONAL / 2,
            1 - 5 / DIAGONAL / 2,
            max(math.exp(-1 / 1.5) + math.exp(-4), math.exp(-2 / 1.5) + math.exp(-2))
            / 2,
        ),
        "greedy against optimal",
    ),
]


@pytest.mark.parametrize(
    "predicted, true, expected, why", SCORED, ids=[row[3] for row in SCORED]
)
def test_hand_worked_scores(predicted, true, expected, why):
    got = [score(predicted, true, M, scorer=s) for s in ("released", "paper", "decay")]
    assert got == pytest.approx(expected, abs=1e-12)


def oracle(predicted, true, scorer):
    """The definitions, by brute force over every pairing of at most four cells."""
    if scorer == "aligned":
        chance = chance_level(true).level
        agreement = max(oracle(turned(predicted, q), true, "bell") for q in range(4))
        return max(0.0, (agreement - chance) / (1 - chance))
    total = 0.0
    for name, spots in true.items():
        drawn = predicted.get(name, [])
        if not drawn:
            continue

        def worth(a, b):
            d = math.dist(a, b)
            if scorer == "bell":
                return math.exp(-d * d / 4.5)
            return math.exp(-d / 1.5) if scorer == "decay" else 1 - d / DIAGONAL

        if scorer == "released":
            # Equally close pairs: the first drawn cell, then the first true one.
            left, free, best = list(enumerate(drawn)), list(enumerate(spots)), 0.0
            while left and free:
                _, a, b = min(
                    ((a[1][0] - b[1][0]) ** 2 + (a[1][1] - b[1][1]) ** 2, a, b)
                    for a in left
                    for b in free
                )
                left.remove(a)
                free.remove(b)
                best += worth(a[1], b[1])
        else:
            short, long = sorted([drawn, spots], key=len)
            best = max(
                sum(worth(a, b) for a, b in zip(short, order, strict=True))
                for order in itertools.permutations(long, len(short))
            )
        size = len(spots) if scorer == "paper" else max(len(drawn), len(spots))
        total += len(spots) * best / size
    surplus = sum(len(predicted[name]) for name in predicted.keys() - true.keys())
    count = sum(map(len, true.values()))
    return total / (count + surplus * (scorer == "bell"))


def mirrored(cells):
    return {name: [(M - 1 - x, y) for x, y in spots] for name, spots in cells.items()}


small_maps = st.dictionaries(
    st.sampled_from(NAMES[:3]), st.lists(cell, min_size=1, max_size=4), min_size=1
)


@settings(max_examples=200, deadline=None)
@given(small_maps, small_maps, st.sampled_from(SCORERS))
def test_scores_equal_their_definitions(predicted, true, scorer):
    got = score(predicted, true, M, scorer=scorer)
    assert got == pytest.approx(oracle(predicted, true, scorer), abs=1e-9)


@settings(max_examples=100, deadline=None)
@given(maps, maps, st.sampled_from(SCORERS), st.randoms(use_true_random=False))
def test_scores_lie_in_range_and_ignore_order(predicted, true, scorer, random):
    value = score(predicted, true, M, scorer=scorer)
    assert 0 <= value <= 1
    mixed = list(predicted.items())
    random.shuffle(mixed)
    if scorer == "released":  # of equally close cells, the first one written counts
        mixed = dict(mixed)
    else:
        mixed = {name: random.sample(spots, len(spots)) for name, spots in mixed}
    assert score(mixed, true, M, scorer=scorer) == pytest.approx(value, abs=1e-12)
    assert score(true, true, M, scorer=scorer) == pytest.approx(1)
    assert 0 <= hits(predicted, true)[0] <= hits(predicted, true)[1]


@settings(max_examples=50, deadline=None)
@given(maps, maps, st.sampled_from(("paper", "decay", "aligned")))
def test_turning_or_mirroring_both_maps_changes_nothing(predicted, true, scorer):
    before = score(predicted, true, M, scorer=scorer)
    for change in (turned, mirrored):
        after = score(change(predicted), change(true), M, scorer=scorer)
        assert after == pytest.approx(before, abs=1e-9)
        assert hits(change(predicted), change(true)) == hits(predicted, true)


def test_cells_off_the_grid_cannot_push_a_score_below_zero():
    far = {"a": [(500, 500)]}
    for scorer in SCORERS:
        assert 0 <= score(far, {"a": [(0, 0)]}, M, scorer=scorer) < 1e-9


def test_wrong_calls_are_refused():
    with refused("maps.no-scorer", says="nice") as caught:
        score({}, {"a": [(0, 0)]}, M, scorer="nice")
    assert caught.value.expected == "released, paper, decay, aligned"
    with refused("maps.no-instances"):
        score({}, {"a": []}, M)
    with refused("maps.no-instances"):
        hits({}, {})
    with refused("maps.no-instances"):
        chance_level({})
    with refused("maps.no-instances"):
        score({}, {}, M, scorer="aligned")


HITS = [
    ({"a": [(1, 1)]}, {"a": [(1, 1)]}, (1, 1), "on the spot"),
    ({"a": [(2, 2)]}, {"a": [(1, 1)]}, (1, 1), "a diagonal step is 1.41 cells"),
    ({"a": [(3, 1)]}, {"a": [(1, 1)]}, (0, 1), "two cells off"),
    ({"a": [(1, 1)]}, {"a": [(1, 1), (1, 2)]}, (1, 2), "one cell serves one instance"),
    (
        {"a": [(1, 0), (2, 0)]},
        {"a": [(0, 0), (1, 0)]},
        (2, 2),
        "taking the perfect pair first would lose the other",
    ),
    ({"b": [(1, 1)]}, {"a": [(1, 1)], "b": [(9, 9)]}, (0, 2), "categories are apart"),
    ({}, {"a": [(1, 1)] * 3}, (0, 3), "nothing drawn"),
]


@pytest.mark.parametrize("predicted, true, expected, why", HITS)
def test_hand_worked_hits(predicted, true, expected, why):
    assert hits(predicted, true) == expected, why


@settings(max_examples=50, deadline=None)
@given(maps, maps)
def test_within_one_cell_is_one_of_the_nine(predicted, true):
    """On whole cells 1.5 is between the diagonal step (1.41) and two cells."""
    near = [(dx, dy) for dx in (-1, 0, 1) for dy in (-1, 0, 1)]
    for a, b in itertools.product(sum(predicted.values(), []), sum(true.values(), [])):
        beside = (a[0] - b[0], a[1] - b[1]) in near
        assert hits({"a": [a]}, {"a": [b]}) == (beside, 1)


# ------------------------------------------------------------------ worth of a score


def random_map(rng):
    """About as many categories and repeats as a scanned room has."""
    names = rng.choice(len(NAMES), size=rng.integers(4, 8), replace=False)
    return {
        NAMES[i]: [tuple(c) for c in rng.integers(0, M, (rng.geometric(0.55), 2))]
        for i in names
    }


def redrawn(cells, draw):
    return {name: [draw(c) for c in spots] for name, spots in cells.items()}


def mean_score(scorer, draw, rooms=400):
    rng = np.random.default_rng([7, rooms])
    values = []
    for _ in range(rooms):
        true = random_map(rng)
        predicted = redrawn(true, lambda c: draw(c, rng))
        values.append(score(predicted, true, M, scorer=scorer))
    return float(np.mean(values))


def central(c, rng):
    return (5, 5)


def anywhere(c, rng):
    return tuple(rng.integers(0, M, 2))


def jittered(c, rng):
    return tuple(np.clip(np.array(c) + rng.integers(-1, 2, 2), 0, M - 1))


# Released scoring on 243 real rooms: all at the centre 0.728, uniformly random 0.679,
# jitter of one cell 0.930. Random rooms here are uniform, so bands are tested. `decay`
# gives a constant or random map about a seventh.
BANDS = [
    ("released", central, 0.70, 0.78),
    ("released", anywhere, 0.62, 0.73),
    ("released", jittered, 0.91, 0.95),
    ("paper", central, 0.70, 0.78),
    ("paper", anywhere, 0.62, 0.73),
    ("paper", jittered, 0.91, 0.95),
    ("decay", central, 0.08, 0.20),
    ("decay", anywhere, 0.08, 0.20),
    ("decay", jittered, 0.45, 0.65),
]


@pytest.mark.parametrize("scorer, draw, low, high", BANDS)
def test_what_maps_that_know_little_earn(scorer, draw, low, high):
    assert low <= mean_score(scorer, draw) <= high


# ------------------------------------------------------------------ aligned


def test_turning_goes_from_x_to_y_about_the_centre():
    assert turned({"a": [(9, 0)]}) == {"a": [(9, 9)]}  # the +x corner to the +y one
    assert turned({"a": [(2, 0)]}, 1, grid_size=3) == {"a": [(2, 2)]}
    assert turned({"a": [(1, 2)]}, 4) == {"a": [(1, 2)]} == turned({"a": [(1, 2)]}, 0)
    views = cogmap._frames([(6, 8), (0, 1)], M).tolist()
    for quarters, view in enumerate(views):
        assert turned({"a": [(6, 8), (0, 1)]}, quarters)["a"] == [*map(tuple, view)]


@settings(max_examples=100, deadline=None)
@given(maps, maps, st.integers(1, 3))
def test_aligned_ignores_the_frame(predicted, true, quarters):
    value = score(predicted, true, M, scorer="aligned")
    seen = turned(predicted, quarters)
    assert score(seen, true, M, scorer="aligned") == pytest.approx(value, abs=1e-9)
    seen = turned(true, quarters)
    assert score(seen, true, M, scorer="aligned") == pytest.approx(1)


@settings(max_examples=200, deadline=None)
@given(small_maps, small_maps)
def test_only_the_layout_itself_is_perfect(predicted, true):
    """A mirrored map is perfect exactly where the layout is its own mirror image."""

    def same(one, other):
        return {n: sorted(s) for n, s in one.items()} == {
            n: sorted(s) for n, s in other.items()
        }

    for seen in (predicted, mirrored(true)):
        is_layout = any(same(turned(seen, q), true) for q in range(4))
        perfect = score(seen, true, M, scorer="aligned") > 1 - 1e-9
        assert perfect == is_layout


@settings(max_examples=100, deadline=None)
@given(small_maps, cell)
def test_no_constant_map_earns_anything(true, spot):
    """Unless the true map is constant itself."""
    if len(set(sum(true.values(), []))) > 1:
        constant = {name: [spot] * len(spots) for name, spots in true.items()}
        assert score(constant, true, M, scorer="aligned") < 1e-9


@settings(max_examples=50, deadline=None)
@given(small_maps, st.lists(cell, min_size=1, max_size=4), small_maps)
def test_surplus_cells_do_not_pay(true, more, predicted):
    """The mean over all ways to drop the surplus of a category is never lower."""
    name = next(iter(true))
    drawn = [*predicted.get(name, []), *more]
    spam = score({**predicted, name: drawn}, true, M, scorer="aligned")
    count = min(len(drawn), len(true[name]))
    without = [
        score({**predicted, name: list(kept)}, true, M, scorer="aligned")
        for kept in itertools.combinations(drawn, count)
    ]
    assert np.mean(without) >= spam - 1e-9
    foreign = {**predicted, "piano": more}
    foreign = score(foreign, true, M, scorer="aligned")
    assert foreign <= score(predicted, true, M, scorer="aligned") + 1e-9


def exact_chance(true):
    """The mean over all 10^2k random maps, for k <= 2 objects; the best constant."""
    cells = list(itertools.product(range(M), repeat=2))
    names = [name for name, spots in true.items() for _ in spots]
    best = []
    for draw in itertools.product(cells, repeat=len(names)):
        predicted = {}
        for name, spot in zip(names, draw, strict=True):
            predicted.setdefault(name, []).append(spot)
        best.append(max(cogmap._agreements(predicted, true, M)))
    constants = [
        oracle({n: [c] * len(s) for n, s in true.items()}, true, "bell") for c in cells
    ]
    return np.mean(best), max(constants)


@pytest.mark.parametrize(
    "true",
    [
        {"a": [(0, 0)]},
        {"a": [(4, 5)]},
        {"a": [(1, 2)], "b": [(7, 5)]},
        {"a": [(1, 2), (3, 8)]},
    ],
)
def test_chance_equals_full_enumeration(true):
    chance = chance_level(true)
    random, constant = exact_chance(true)
    assert chance.constant == pytest.approx(constant, abs=1e-12)
    assert abs(chance.random - random) < 4 * chance.random_error


def test_chance_where_there_is_nothing_to_know():
    alone = chance_level({"a": [(4, 5)] * 3, "b": [(4, 5)]})
    assert alone.constant == pytest.approx(1) and alone.level == alone.random < 1
    only_cell = chance_level({"a": [(0, 0)]}, grid_size=1)
    assert only_cell.random == only_cell.constant == 1 and only_cell.level == 0
    assert score({"a": [(0, 0)]}, {"a": [(0, 0)]}, 1, scorer="aligned") == 1


@settings(max_examples=30, deadline=None)
@given(maps, st.randoms(use_true_random=False))
def test_chance_depends_on_the_layout_only(true, random):
    chance = chance_level(true)
    names = [f"category {i}" for i in range(len(true))]
    mixed = [random.sample(spots, len(spots)) for spots in true.values()]
    random.shuffle(mixed)
    mixed = dict(zip(names, mixed, strict=True))
    for same in (mixed, turned(true), mirrored(turned(mixed, 2))):
        again = chance_level(same)
        assert (again.random, again.random_error) == (
            pytest.approx(chance.random),
            pytest.approx(chance.random_error),
        )
        assert again.constant == pytest.approx(chance.constant)


ROOMS = 60


@pytest.fixture(scope="module")
def rooms():
    """True maps of furnished rooms (about ten objects each)."""
    return [
        rasterize(to_scene(draw_room(seed, "furnished"), with_boxes=False))
        for seed in range(ROOMS)
    ]


def test_the_stated_error_of_chance(rooms, monkeypatch):
    """The error stated for 192 draws fits the means of 20 times as many."""
    stated = [chance_level(true) for true in rooms]
    assert 0.003 < np.mean([c.random_error for c in stated]) < 0.005
    assert np.mean([c.random_error / (1 - c.level) for c in stated]) < 0.007
    cogmap._chance.cache_clear()
    monkeypatch.setattr(cogmap, "CHANCE_DRAWS", 20 * 192)
    better = [chance_level(true) for true in rooms]
    cogmap._chance.cache_clear()
    z = [
        (s.random - b.random) / s.random_error
        for s, b in zip(stated, better, strict=True)
    ]
    assert 0.6 < np.std(z) < 1.5 and np.abs(z).max() < 4.5


def jitter(reach):
    def draw(c, rng):
        return tuple(
            np.clip(np.array(c) + rng.integers(-reach, reach + 1, 2), 0, M - 1)
        )

    return draw


def kept(cells, share, rng):
    """A random share of the objects, each exactly in place."""
    every = [(name, spot) for name, spots in cells.items() for spot in spots]
    some = {}
    for i in rng.permutation(len(every))[: round(len(every) * share)]:
        some.setdefault(every[i][0], []).append(every[i][1])
    return some


def messy(reach):
    """Three quarters of the objects, jittered, and as many foreign as are missing."""

    def policy(cells, rng):
        some = redrawn(kept(cells, 0.75, rng), lambda c: jitter(reach)(c, rng))
        missing = sum(map(len, cells.values())) - sum(map(len, some.values()))
        foreign = {f"{i}": [tuple(rng.integers(0, M, 2))] for i in range(missing)}
        return some | foreign

    return policy


def redraw(draw):
    return lambda cells, rng: redrawn(cells, lambda c: draw(c, rng))


POLICIES = {
    "perfect": lambda cells, rng: cells,
    "jitter 1": redraw(jitter(1)),
    "jitter 2": redraw(jitter(2)),
    "jitter 3": redraw(jitter(3)),
    "jitter 5": redraw(jitter(5)),
    "half missing": lambda cells, rng: kept(cells, 0.5, rng),
    "messy 1": messy(1),
    "messy 2": messy(2),
    "centre": lambda cells, rng: redrawn(cells, lambda c: (5, 5)),
    "random": redraw(lambda c, rng: tuple(rng.integers(0, M, 2))),
    "mirrored": lambda cells, rng: mirrored(cells),
    "turned 90": lambda cells, rng: turned(cells),
    "turned 180": lambda cells, rng: turned(cells, 2),
    "every cell": lambda cells, rng: dict.fromkeys(
        cells, list(itertools.product(range(M), repeat=2))
    ),
    "40 categories": lambda cells, rng: cells | {f"{i}": [(5, 5)] for i in range(40)},
}


def table(rooms, policies=POLICIES, scorer="aligned", repeats=6):
    """{policy: (rooms, repeats) scores}."""
    rng = np.random.default_rng(3)
    return {
        name: np.array(
            [
                [
                    score(policy(true, rng), true, M, scorer=scorer)
                    for _ in range(repeats)
                ]
                for true in rooms
            ]
        )
        for name, policy in policies.items()
    }


def check_aligned(rooms, mirrored_at_most):
    """The properties of `aligned`, as means over rooms."""
    values = table(rooms)
    means = {name: value.mean() for name, value in values.items()}
    for name in ("perfect", "turned 90", "turned 180"):
        assert np.allclose(values[name], 1), name
    for name in ("random", "centre", "every cell", "40 categories"):
        assert means[name] <= 0.05, name
    ladder = [1.0] + [means[f"jitter {reach}"] for reach in (1, 2, 3, 5)]
    assert max(np.diff(ladder)) < -0.05  # ±5 cells on ten are hardly better than random
    assert 0.55 < means["jitter 1"] < 0.8
    assert means["mirrored"] < mirrored_at_most


def test_aligned_on_furnished_rooms(rooms):
    check_aligned(rooms, mirrored_at_most=0.2)  # measured: 0.11


def test_aligned_on_real_rooms(real_meta):
    rooms = [rasterize(room) for room in read_meta_file(real_meta)]
    check_aligned(rooms, mirrored_at_most=0.25)  # measured: 0.17


# Worth of a pair: (half missing, jitter 1, share of draws where messy 1 > messy 2).
SHAPES = {
    "line": (lambda d: np.maximum(0, 1 - d / DIAGONAL), (0.00, 0.74, 0.50)),
    "peak": (lambda d: np.exp(-d / 1.5), (0.37, 0.44, 0.94)),
    "bell": (cogmap._bell, (0.34, 0.71, 0.99)),
}


@pytest.mark.parametrize("shape", SHAPES)
def test_why_the_worth_of_aligned_is_a_bell(shape, rooms, monkeypatch):
    """The numbers in the docstring of ``score``."""
    worth, expected = SHAPES[shape]
    names = ("half missing", "jitter 1", "messy 1", "messy 2")
    cogmap._chance.cache_clear()
    monkeypatch.setattr(cogmap, "_bell", worth)
    values = table(rooms, {name: POLICIES[name] for name in names})
    cogmap._chance.cache_clear()
    better, worse = values["messy 1"][:, :, None], values["messy 2"][:, None, :]
    won = np.mean(better > worse) + np.mean(better == worse) / 2
    got = values["half missing"].mean(), values["jitter 1"].mean(), won
    assert got == pytest.approx(expected, abs=0.02)
