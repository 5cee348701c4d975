"""The pictures of all samples: a coloured square that crosses a grey picture."""

import io
from pathlib import Path

from PIL import Image, ImageDraw

from spacer_lib.rooms.video import encode_jpegs

WIDTH_PX, HEIGHT_PX, SIDE_PX = 64, 48, 16
FRAMES, FPS = 8, 4.0
COLOURS = ("red", "green", "blue", "orange")
WAYS = ("left to right", "right to left")


def picture(colour: str, left: int) -> Image.Image:
    """One picture; ``left`` is the square's left edge in pixels."""
    image = Image.new("RGB", (WIDTH_PX, HEIGHT_PX), (128, 128, 128))
    top = (HEIGHT_PX - SIDE_PX) // 2
    corners = (left, top, left + SIDE_PX - 1, top + SIDE_PX - 1)
    ImageDraw.Draw(image).rectangle(corners, fill=colour)
    return image


def encoded(image: Image.Image, kind: str = "PNG") -> bytes:
    """The bytes of a picture file."""
    memory = io.BytesIO()
    image.save(memory, kind)
    return memory.getvalue()


def clip(path: Path, colour: str, way: str = WAYS[0]) -> None:
    """Write an mp4 of two seconds."""
    lefts = [6 * number for number in range(FRAMES)]
    if way == WAYS[1]:
        lefts.reverse()
    frames = (encoded(picture(colour, left), "JPEG") for left in lefts)
    encode_jpegs(frames, path, FPS)
