"""Areas of rooms by the named rules: meshes, scenes on disk, recipes."""

import alphashape
import numpy as np
import pytest
import yaml
from support import refused

from spacer_lib.questions.kinds.size import in_strips_m2
from spacer_lib.questions.recipes import RECIPES, load_recipe
from spacer_lib.rooms import geometry
from spacer_lib.rooms.area import AREA_RULES, room_floor
from spacer_lib.rooms.scene import BENCHMARK_AREA, LABELLED_AREA, Scene

BENCHMARK, SPATIAL_R1 = AREA_RULES.values()


def sheet(width, depth, z=0.0, step=0.04):
    """(n, 3) vertices of a horizontal rectangle, rough by 5 mm."""
    x, y = np.meshgrid(np.arange(0, width, step), np.arange(0, depth, step))
    points = np.stack([x.ravel(), y.ravel(), np.full(x.size, z)], axis=1)
    return points + np.random.default_rng(5).normal(0, 0.005, points.shape)


@pytest.fixture(scope="module")
def room():
    """A 7 x 6 m floor, absent under a 2 x 1.6 m bed, with the bed's upper side.

    One corner, 2 x 2 m, is not part of the room.
    """
    floor, bed = sheet(7, 6), sheet(2, 1.6, z=0.5) + (3, 2, 0)
    hidden = ((floor > (3, 2, -1)) & (floor < (5, 3.6, 1))).all(axis=1)
    corner = (floor[:, :2] > (5, 4)).all(axis=1)
    walls = [(x, 0.0, z) for x in np.arange(0, 7, 0.02) for z in np.arange(0, 2, 0.05)]
    return np.concatenate([floor[~hidden & ~corner], bed, np.array(walls)])


def test_the_benchmark_counts_the_furniture_and_spatial_r1_does_not(room):
    areas = room_floor(room, [])[0]
    assert list(areas) == ["vsi-bench", "spatial-r1"]
    # 42 m2 without the corner. The bed's hole is 3.2 m2, but for its corners.
    assert areas["vsi-bench"] == pytest.approx(38.0, rel=0.02)
    assert areas["vsi-bench"] - areas["spatial-r1"] == pytest.approx(2.7, abs=0.3)


@pytest.mark.filterwarnings("ignore:the matrix subclass")  # inside the package
def test_the_benchmarks_rule_is_the_call_its_authors_publish(room):
    """``alphashape(points, 5)`` of 10,000 points drawn with replacement."""
    drawn = room[np.random.default_rng(0).choice(len(room), 10_000)]
    official = alphashape.alphashape(drawn[:, :2], 5).area
    assert BENCHMARK.area_m2(drawn) == pytest.approx(official, rel=1e-6)
    # All points, in place of one draw of them.
    assert BENCHMARK.area_m2(room) == pytest.approx(official, rel=0.01)


@pytest.mark.filterwarnings("ignore:the matrix subclass")
def test_the_package_fills_the_gaps_of_a_sparse_draw(room):
    drawn = room[np.random.default_rng(0).choice(len(room), 1000)]
    official = alphashape.alphashape(drawn[:, :2], 5).area
    assert BENCHMARK.area_m2(drawn) == pytest.approx(official, rel=1e-6)
    assert geometry.alpha_shape_area_m2(drawn[:, :2], 0.2) < 0.95 * official


def test_holes_are_filled_and_bays_are_not():
    points = sheet(6, 6)[:, :2]
    away = np.linalg.norm(points - 3, axis=1)
    bay = (np.abs(points[:, 0] - 3) < 0.75) & (points[:, 1] < 3)
    for kept, expected in ((away > 1.5, 35.5), (~bay, 31.0)):
        area = geometry.alpha_shape_area_m2(points[kept], 0.2, fill_holes=True)
        assert area == pytest.approx(expected, rel=0.02)


@pytest.mark.parametrize("rule", AREA_RULES.values(), ids=AREA_RULES)
def test_thinning_changes_no_area(room, rule, monkeypatch):
    """Dense meshes are thinned, so that 250,000 vertices take about a second."""
    dense = np.concatenate([room + shift for shift in ((0, 0, 0), (0.02, 0.02, 0))])
    points = rule.points_xy(dense)
    assert len(geometry._thinned(points, rule.alpha_m / 4)) < 0.6 * len(points)
    area = rule.area_m2(dense)
    monkeypatch.setattr(geometry, "_thinned", lambda points, cell_m: points)
    assert area == pytest.approx(rule.area_m2(dense), rel=1e-3)


def test_thinning_leaves_wide_sets_alone():
    points = np.array([(0.0, 0.0), (1e6, 1e6), (3.0, 4.0)])
    assert len(geometry._thinned(points, 0.05)) == 3


def test_the_floors_height_is_not_that_of_stray_points(room):
    stray = np.array([(x, 1.0, -1.5) for x in np.linspace(0, 5, 40)])
    assert len(stray) < 0.01 * len(room)
    with_stray = SPATIAL_R1.area_m2(np.concatenate([room, stray]))
    assert with_stray == pytest.approx(SPATIAL_R1.area_m2(room), rel=1e-3)


def test_a_rule_without_an_area_is_left_out(room):
    low = np.array([(x, 1.0, -1.5) for x in np.linspace(0, 5, len(room) // 20)])
    notes = []
    areas, _ = room_floor(np.concatenate([room, low]), notes)
    assert list(areas) == ["vsi-bench"]
    assert "no area by the rule spatial-r1" in notes[0]
    with refused("rooms.no-floor-area"):
        room_floor(low, [])


# --- scenes


def scene_of(**changes):
    values = {"room_size_m2": 20.0, "floor_min_m": (0, 0), "floor_max_m": (5, 4)}
    return Scene(
        "scene0001_00", "hand", (), room_center_m=(2, 2, 1), **values, **changes
    )


def test_a_scene_keeps_the_area_of_every_rule():
    scene = scene_of(room_areas_m2={"vsi-bench": 20.0, "spatial-r1": 17.5})
    meta = scene.to_meta()
    assert meta["room_size"] == 20.0  # the key of the published files
    assert Scene.from_meta(scene.scene_id, meta) == scene
    assert scene_of().room_areas_m2 == {BENCHMARK_AREA: 20.0}


def test_published_files_have_the_benchmarks_area():
    meta = scene_of().to_meta()
    published = {k: meta[k] for k in ("dataset", "room_size", "object_counts")}
    published |= {"object_bbox": {}, "floor_min": [0, 0], "floor_max": [5, 4]}
    scene = Scene.from_meta("a", published)
    assert scene.room_areas_m2 == {BENCHMARK_AREA: 20.0}


def test_older_scene_files_are_read_with_their_own_rule():
    meta = scene_of(parser_version="3").to_meta()
    del meta["room_areas"]
    scene = Scene.from_meta("scene0001_00", meta)
    assert (scene.room_size_m2, scene.parser_version) == (20.0, "3")
    assert scene.room_areas_m2 == {LABELLED_AREA: 20.0}
    assert "floor label alone" in scene.warnings[-1]
    # Read again, it is the same and says so once.
    assert Scene.from_meta("scene0001_00", scene.to_meta()) == scene


@pytest.mark.parametrize(
    "areas", [{"vsi-bench": 21.0}, {"spatial-r1": -1.0}, {"spatial-r1": float("nan")}]
)
def test_areas_that_cannot_be_are_refused(areas):
    with refused("rooms.room-areas", says="scene0001_00"):
        scene_of(room_areas_m2=areas)


# --- outlines


def cells(*spots):
    """(t, 3, 2) triangles of unit squares, two each, run through in both senses."""
    square = np.array([(0, 0), (1, 0), (1, 1), (0, 1)], float)
    shapes = [square + spot for spot in spots]
    return np.array([tri for s in shapes for tri in (s[[0, 1, 2]], s[[0, 3, 2]])])


def shoelace_m2(ring):
    x, y = np.transpose(ring)
    return float(x @ np.roll(y, -1) - y @ np.roll(x, -1)) / 2


def test_an_outline_goes_around_holes_the_other_way():
    floor = [(x, y) for x in range(4) for y in range(3) if (x, y) != (1, 1)]
    outer, hole = sorted(geometry.outline_rings(cells(*floor)), key=shoelace_m2)[::-1]
    assert {*map(tuple, outer)} == {(0, 0), (4, 0), (4, 3), (0, 3)}
    assert {*map(tuple, hole)} == {(1, 1), (2, 1), (2, 2), (1, 2)}
    assert (shoelace_m2(outer), shoelace_m2(hole)) == (12, -1)


@pytest.mark.parametrize("spots", [[(0, 0), (3, 0)], [(0, 0), (1, 1)]])
def test_parts_that_touch_in_a_point_or_not_at_all(spots):
    rings = geometry.outline_rings(cells(*spots))
    assert sum(map(shoelace_m2, rings)) == len(spots)
    tuples = tuple(tuple(map(tuple, ring)) for ring in rings)
    assert in_strips_m2(tuples) == pytest.approx(len(spots), abs=1e-9)


def test_flat_corners_are_left_out_of_an_outline():
    bent = np.array([[(0, 0), (4, 0), (2, -0.0001)], [(0, 0), (4, 0), (2, 3)]])
    (ring,) = geometry.outline_rings(bent)
    assert sorted(map(tuple, ring)) == [(0, 0), (2, 3), (4, 0)]


OUTLINE = (((0.0, 0.0), (5.0, 0.0), (5.0, 4.123), (0.0, 4.0)),)


def test_a_scene_keeps_its_outline():
    scene = scene_of(outline_m=OUTLINE)
    meta = scene.to_meta()
    assert meta["outline_mm"] == [[0, 0, 5000, 0, 5000, 4123, 0, 4000]]
    assert Scene.from_meta(scene.scene_id, meta) == scene
    assert scene.fingerprint() != scene_of().fingerprint()
    # Files of before have none.
    assert "outline_mm" not in scene_of().to_meta()
    del meta["outline_mm"]
    assert Scene.from_meta(scene.scene_id, meta | {"parser_version": "5"}) == scene_of(
        parser_version="5"
    )


@pytest.mark.parametrize(
    ("outline", "kind"),
    [
        (7, "meta-form"),
        ([[0, 0, 1, 0, 1]], "meta-size"),
        ([[0, 0, 1, 0]], "meta-size"),
        ([[0, 0, 1, 0, 1, 0.5]], "meta-form"),
        ([[0, 0, 1, 0, 1, 10**7]], "meta-range"),
    ],
)
def test_outlines_in_files_that_cannot_be(outline, kind):
    meta = scene_of(outline_m=OUTLINE).to_meta() | {"outline_mm": outline}
    with refused(f"rooms.{kind}", says="outline_mm"):
        Scene.from_meta("a", meta)


@pytest.mark.parametrize(
    "ring", [((0, 0), (1, 0)), ((0, 0), (1, 0), (1, float("nan")))]
)
def test_outlines_that_cannot_be(ring):
    with refused("rooms.outline", says="scene0001_00"):
        scene_of(outline_m=(ring,))


# --- recipes


@pytest.mark.parametrize("path", sorted(RECIPES.glob("*.yaml")), ids=lambda p: p.stem)
def test_each_recipe_that_asks_for_an_area_names_its_rule(path):
    recipe = yaml.safe_load(path.read_text())
    if "room_size_estimation" not in recipe["tasks"]:
        assert "room_area" not in recipe["rules"]
        return
    named = recipe["rules"]["room_area"]
    assert load_recipe(path.stem).rules.room_area == named
    assert named in AREA_RULES
    assert (named == "spatial-r1") == (path.stem in ("sr", "sr91k"))
