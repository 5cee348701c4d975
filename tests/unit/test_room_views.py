"""The room to turn and the video to play: what they hold, their size, their texts."""

import base64
import dataclasses
import json

import numpy as np
import pytest

from spacer_lib.maps.grid import cells_at, rasterize
from spacer_lib.pictures import room_views
from spacer_lib.pictures.map_svg import map_svg
from spacer_lib.pictures.room_views import map_player, room_scene
from spacer_lib.rooms.synthetic.layout import draw_room
from spacer_lib.rooms.synthetic.render import film, render_frames
from spacer_lib.rooms.synthetic.views import VIEWS, to_scene

ROOM, VIEW = draw_room(6, "furnished"), VIEWS["walk"]
INDICES = tuple(range(0, VIEW.frames, 4))


@pytest.fixture(scope="module")
def scene():
    return to_scene(ROOM, VIEW, footage=film(ROOM, VIEW, frames=INDICES))


@pytest.fixture(scope="module")
def frames():
    return render_frames(ROOM, VIEW, INDICES, 160)


def cloud(count=40_000):
    rng = np.random.default_rng(0)
    points = rng.uniform(0, 4, (count, 3))
    colors = np.where(points[:, :1] > 2, [[250, 10, 10]], [[10, 10, 250]])
    return points, colors.astype(np.uint8)


def numbers(array):
    return np.frombuffer(base64.b64decode(array["bdata"]), array["dtype"])


def test_the_room_has_points_boxes_path_grid_and_frames(scene, frames):
    made = room_scene(scene, *cloud(), frames[::3], INDICES[::3])
    text = made.to_json()
    assert len(text) < 250_000
    data = json.loads(text)["data"]
    by_name = {trace["name"]: trace for trace in data}
    assert {*scene.by_category(), "mesh", "10 x 10 cells", "camera"} < {*by_name}
    x = numbers(by_name["mesh"]["x"])
    assert len(x) == room_views.POINTS and x.min() >= 0 and x.max() <= 4
    assert by_name["camera"]["customdata"] == [f for f, *_ in scene.camera_path_m]
    for name, group in scene.by_category().items():
        assert [t for t in by_name[name]["text"] if t] == [name] * len(group)
        tops = max(one.aabb_max_m[2] for one in group)
        assert np.nanmax(numbers(by_name[name]["z"])) == pytest.approx(tops, abs=0.02)
    steps = json.loads(text)["layout"]["sliders"][0]["steps"]
    assert [step["label"] for step in steps] == [str(i) for i in INDICES[::3]]
    for index, step in zip(INDICES[::3], steps, strict=True):
        spot, picture, (moved,) = step["args"]
        assert data[moved]["name"] == "frame shown"
        place = scene.footage.centers_m[INDICES.index(index)]
        assert np.ravel([spot[axis] for axis in "xyz"]) == pytest.approx(place)
        assert picture["images[0].source"].startswith("data:image/jpeg;base64,")
    assert "http" not in text


def test_points_keep_their_colours(scene):
    points, colors = cloud(2_000)
    mesh = json.loads(room_scene(scene, points, colors).to_json())["data"][0]
    scale = {k: color for k, (_, color) in enumerate(mesh["marker"]["colorscale"])}
    shown = [scale[k] for k in numbers(mesh["marker"]["color"])]
    expected = [f"rgb({','.join(map(str, color))})" for color in colors.tolist()]
    assert shown == expected


def test_a_scene_without_a_camera_path_has_no_slider(scene, frames):
    still = dataclasses.replace(scene, footage=None, camera_path_m=())
    layout = room_scene(still, *cloud(50), frames[:2], INDICES[:2]).to_dict()["layout"]
    assert "sliders" not in layout and "images" not in layout


def test_the_player_is_small_and_knows_when_each_object_is_first_seen(scene, frames):
    page = map_player(scene, frames, INDICES)
    assert len(page) < 300_000
    seen = sorted(
        one.first_seen_frame
        for group in scene.by_category().values()
        for one in group
        if one.first_seen_frame is not None
    )
    firsts = [int(part.split('"')[0]) for part in page.split('data-first="')[1:]]
    assert sorted(firsts) == seen and len(seen) > 5
    assert page.count("data:image/jpeg") == len(INDICES) + 1
    assert "http" not in page and "src=" in page


def test_a_map_fills_as_objects_are_first_seen(scene):
    assert rasterize(scene, seen_by=-1) == {}
    counts = [sum(map(len, rasterize(scene, seen_by=f).values())) for f in INDICES]
    assert counts == sorted(counts) and counts[0] < counts[-1]
    seen = [one for one in scene.instances if one.first_seen_frame is not None]
    assert counts[-1] == len(seen)


def test_names_of_files_stay_text(scene, frames):
    hostile = "<script>alert('1')</script>"
    things = [dataclasses.replace(scene.instances[0], category=hostile)]
    named = dataclasses.replace(
        scene, instances=(*things, *scene.instances[1:]), object_counts={}
    )
    page = map_player(named, frames[:2], INDICES[:2])
    assert page.count("<script>") == 1 and "&lt;script&gt;" in page
    assert "<script>" not in room_scene(named, *cloud(50)).to_json()


def test_squares_are_where_the_cells_are(scene):
    one = scene.instances[0]
    (x, y), *_ = cells_at([one.centroid_m[:2]], scene).tolist()
    text = map_svg({one.category: [[x, y]]}, None)
    assert f'x="{x - 0.43:.2f}" y="{9 - y - 0.43:.2f}"' in text
    assert "stroke-dasharray" not in text
    assert "stroke-dasharray" in map_svg({one.category: [[x, y]]}, {})
    assert map_svg({}, None) == ""
