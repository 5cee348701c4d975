"""A room to turn and a video to play: views for notebooks, without any request.

The room is a plotly figure, which JupyterLab draws with the renderer that plotly
brings. GitHub does not: a static picture stands beside it. The player is HTML with a
script of its own.
"""

import base64
import io
import json
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import plotly.graph_objects as go
from PIL import Image

from spacer_lib.maps.grid import cells_at
from spacer_lib.markup import html_text
from spacer_lib.pictures.map_plots import Mark
from spacer_lib.pictures.map_svg import map_svg
from spacer_lib.pictures.style import ALERT, FAINT, INK, category_styles
from spacer_lib.rooms.geometry import box_corners
from spacer_lib.rooms.scene import ObjectInstance, Scene, is_structural

PLOTLY = "application/vnd.plotly.v1+json"  # the type of output that plotly renders
POINTS = 5_000  # of a mesh, at most
COLORS = 64  # of the points
WIDTH = 160  # of an embedded frame, pixels

Frames = Sequence[npt.NDArray[np.uint8]] | npt.NDArray[np.uint8]


# ---------------------------------------------------------------- a room to turn


def room_scene(
    scene: Scene,
    points: npt.NDArray[np.float64],
    colors: npt.NDArray[np.uint8],
    frames: Frames = (),
    indices: Sequence[int] = (),
    grid_size: int = 10,
) -> go.Figure:
    """Points of the mesh, boxes with names, the camera's path and the map's grid.

    A slider shows frames of the video beside the room, and where each was filmed. A
    click on a category in the key hides its boxes.

    Parameters
    ----------
    scene : Scene
        Without a camera path there is no slider.
    points : (n, 3) float64
        Metres, aligned frame. At most ``POINTS`` of them are drawn, evenly chosen.
    colors : (n, 3) uint8
    frames : (k, h, w, 3) uint8
        Of the scene's video.
    indices : (k,) sequence of int
        Their numbers in the video.
    grid_size : int
        M of the map's M x M grid, which lies on the floor.
    """
    figure = go.Figure([_cloud(points, colors), _grid(scene, grid_size)])
    figure.add_traces([*_boxes(scene)])
    figure.update_layout(
        template="none",
        height=520,
        margin={"l": 0, "r": 0, "t": 0, "b": 0},
        legend={"x": 0, "y": 1},
        scene={
            "aspectmode": "data",
            "domain": {"x": [0.0, 0.7 if len(frames) else 1.0]},
            **{f"{axis}axis": {"title": {"text": f"{axis} (m)"}} for axis in "xyz"},
        },
    )
    if scene.camera_path_m:
        _add_path(figure, scene, frames, indices)
    return figure


def _cloud(
    points: npt.NDArray[np.float64], colors: npt.NDArray[np.uint8]
) -> go.Scatter3d:
    chosen = np.unique(np.linspace(0, len(points) - 1, POINTS).astype(int))
    strip = Image.fromarray(np.asarray(colors, np.uint8)[None, chosen])
    few = strip.quantize(COLORS, dither=Image.Dither.NONE)
    palette = np.array(few.getpalette()).reshape(-1, 3)
    scale = [
        [
            k / (COLORS - 1),
            f"rgb({','.join(map(str, palette[min(k, len(palette) - 1)]))})",
        ]
        for k in range(COLORS)
    ]
    color = {"color": np.asarray(few)[0], "colorscale": scale}
    x, y, z = points[chosen].astype(np.float32).T
    return go.Scatter3d(
        x=x,
        y=y,
        z=z,
        mode="markers",
        marker={"size": 1.6, "cmin": 0, "cmax": COLORS - 1, **color},
        hoverinfo="skip",
        name="mesh",
    )


def _grid(scene: Scene, grid_size: int) -> go.Scatter3d:
    (x0, y0), (x1, y1) = scene.floor_min_m, scene.floor_max_m
    across = [[(x, y0), (x, y1)] for x in np.linspace(x0, x1, grid_size + 1)]
    along = [[(x0, y), (x1, y)] for y in np.linspace(y0, y1, grid_size + 1)]
    x, y = _joined(np.array(across + along)).T
    return go.Scatter3d(
        x=x,
        y=y,
        z=np.where(np.isnan(x), np.nan, 0.02).astype(np.float32),
        mode="lines",
        line={"color": FAINT, "width": 2},
        hoverinfo="skip",
        name=f"{grid_size} x {grid_size} cells",
    )


def _joined(segments: npt.NDArray[np.float64]) -> npt.NDArray[np.float32]:
    """(n, 2, d) ends of segments → (3 n, d) points of one line with gaps."""
    gap = np.full_like(segments[:, :1], np.nan)
    found = np.concatenate([segments, gap], axis=1).reshape(-1, segments.shape[-1])
    return found.astype(np.float32)


def _boxes(scene: Scene) -> list[go.Scatter3d]:
    shown = [one for one in scene.instances if not is_structural(one.category)]
    looks = category_styles(one.category for one in shown)
    return [
        _box_lines(name, [one for one in shown if one.category == name], color)
        for name, (color, _) in looks.items()
    ]


def _box_lines(name: str, group: list[ObjectInstance], color: str) -> go.Scatter3d:
    """The edges of a category's boxes, and its name above each."""
    # The index of a corner has one bit per axis; an edge joins two that differ in one.
    edges = [(a, a | bit) for bit in (1, 2, 4) for a in range(8) if not a & bit]
    lines, texts = [], []
    for one in group:
        corners = box_corners(one.centroid_m, one.axes_lengths_m, one.axes_matrix)
        lines.append(_joined(corners[np.array(edges)]))
        lines.append(corners[[corners[:, 2].argmax()]].astype(np.float32))
        lines.append(np.full((1, 3), np.nan, np.float32))
        texts += [""] * (3 * len(edges)) + [html_text(name), ""]
    x, y, z = np.concatenate(lines).T
    return go.Scatter3d(
        x=x,
        y=y,
        z=z,
        text=texts,
        mode="lines+text",
        textfont={"color": INK, "size": 11},
        textposition="top center",
        line={"color": color, "width": 4},
        hoverinfo="skip",
        name=html_text(name),
    )


def _add_path(
    figure: go.Figure, scene: Scene, frames: Frames, indices: Sequence[int]
) -> None:
    path = np.array(scene.camera_path_m, dtype=np.float64)  # (n, 4): frame, x, y, z
    x, y, z = path[:, 1:].astype(np.float32).T
    figure.add_trace(
        go.Scatter3d(
            x=x,
            y=y,
            z=z,
            mode="lines+markers",
            line={"color": INK, "width": 3},
            marker={"size": 2, "color": INK},
            customdata=path[:, 0].astype(int).tolist(),
            hovertemplate="frame %{customdata}<extra></extra>",
            name="camera",
        )
    )
    if not len(frames):
        return
    nearest = [int(np.abs(path[:, 0] - index).argmin()) for index in indices]
    start = path[nearest[0], 1:, None].tolist()
    figure.add_trace(
        go.Scatter3d(
            **dict(zip("xyz", start, strict=True)),
            mode="markers",
            marker={"size": 7, "color": ALERT},
            hoverinfo="skip",
            name="frame shown",
        )
    )
    moved = len(figure.data) - 1
    steps = []
    for index, place, frame in zip(indices, nearest, frames, strict=True):
        spot = dict(zip("xyz", path[place, 1:, None, None].tolist(), strict=True))
        picture = {"images[0].source": _data_uri(frame)}
        step = {
            "label": str(index),
            "method": "update",
            "args": [spot, picture, [moved]],
        }
        steps.append(step)
    image = {"xref": "paper", "yref": "paper", "x": 0.72, "y": 0.85}
    image |= {"sizex": 0.28, "sizey": 0.6, "source": _data_uri(frames[0])}
    figure.update_layout(
        images=[image],
        sliders=[
            {
                "steps": steps,
                "currentvalue": {"prefix": "frame "},
                "x": 0.72,
                "len": 0.26,
                "y": 0.3,
            }
        ],
    )


def show_room(view: go.Figure) -> None:
    """Show an interactive room in a notebook; elsewhere a sentence stands there.

    The output holds no picture: plotly's renderer would show that in its place.
    """
    from IPython.display import display

    words = "JupyterLab shows a room here that can be turned."
    display({PLOTLY: json.loads(view.to_json()), "text/plain": words}, raw=True)


def _data_uri(frame: npt.NDArray[np.uint8]) -> str:
    picture = Image.fromarray(frame)
    height = max(1, round(WIDTH * picture.height / picture.width))
    content = io.BytesIO()
    picture.resize((WIDTH, height)).save(content, "JPEG", quality=65)
    return f"data:image/jpeg;base64,{base64.b64encode(content.getvalue()).decode()}"


# ---------------------------------------------------------------- a video to play

_PLAYER = """
const root = document.currentScript.parentElement;
const [image, output] = [root.querySelector("img"), root.querySelector("output")];
const [slider, button] = [root.querySelector("input"), root.querySelector("button")];
const marks = [...root.querySelectorAll("g[data-first]")];
let timer = null;
function show(k) {
  slider.value = k;
  image.src = frames[k];
  image.alt = `frame ${numbers[k]} of the video`;
  const seen = marks.filter(mark => {
    const visible = Number(mark.dataset.first) <= numbers[k];
    mark.style.visibility = visible ? "visible" : "hidden";
    return visible;
  });
  output.textContent = `frame ${numbers[k]}: ${seen.length} objects seen`;
}
function stop() { clearInterval(timer); timer = null; button.textContent = "Play"; }
button.addEventListener("click", () => {
  if (timer) return stop();
  let k = Number(slider.value) >= frames.length - 1 ? 0 : Number(slider.value);
  button.textContent = "Pause";
  timer = setInterval(() => { show(k); if (++k >= frames.length) stop(); }, 250);
});
slider.addEventListener("input", () => { stop(); show(Number(slider.value)); });
root.querySelector("p").hidden = false;
show(0);
"""


def map_player(
    scene: Scene, frames: Frames, indices: Sequence[int], grid_size: int = 10
) -> str:
    """Frames to play beside the map, which fills as objects are first seen: HTML.

    Without its script, as in a notebook that is not trusted, it is the first frame
    beside the whole map.

    Parameters
    ----------
    scene : Scene
        An object without ``first_seen_frame`` is never drawn.
    frames : (k, h, w, 3) uint8
    indices : (k,) sequence of int
        Numbers of the frames in the video.
    grid_size : int
        M of the M x M map.
    """
    first: dict[Mark, int] = {}
    cells: dict[str, list[list[int]]] = {}
    for name, group in scene.by_category().items():
        seen = [one for one in group if one.first_seen_frame is not None]
        if not seen:
            continue
        spots = cells_at([one.centroid_m[:2] for one in seen], scene, grid_size)
        cells[name] = spots.tolist()
        for place, one in enumerate(seen):
            first[name, place, False] = one.first_seen_frame or 0
    sources = [_data_uri(frame) for frame in frames]
    known = f"const frames = {json.dumps(sources)}, numbers = {json.dumps([*indices])};"
    last = len(sources) - 1
    return f"""<div style="display:flex;gap:1.5rem;flex-wrap:wrap">
<div><img src="{sources[0]}" alt="frame {indices[0]} of the video" width="224">
<p hidden><button type="button">Play</button>
<input type="range" min="0" max="{last}" value="0" aria-label="frame">
<output></output></p></div>
{map_svg(cells, None, grid_size, first)}
<script>(() => {{{known}{_PLAYER}}})();</script></div>
"""
