"""How a benchmark is asked: SpaceR's settings, unless a file or an option differs."""

from dataclasses import asdict, dataclass, fields
from pathlib import Path
from types import NoneType
from typing import get_args

import yaml

from spacer_lib.artifacts import PROJECT_ROOT
from spacer_lib.errors import SpacerError
from spacer_lib.rooms.frames import VideoSettings

CONFIGS = PROJECT_ROOT / "configs" / "evaluate"
FRAMES_AS = ("video", "images")


@dataclass(frozen=True)
class EvaluationConfig:
    """The settings of ``spacer evaluate``.

    Attributes
    ----------
    mode : str or None
        Answer mode; ``None``: the benchmark's own, with thinking on spatial ones.
    condition, extraction : str
        See ``runner.run``.
    frames, size, max_pixels : int, int or None, int or None
        See ``VideoSettings``. 32 frames of at most 448 x 28 x 28 pixels: SpaceR §5.1.
    frames_as : str or None
        ``video`` or ``images``; ``None``: images for a server, which may know no
        other, else a video.
    temperature, top_p : float
        0.01 is SpaceR's.
    max_new_tokens : int or None
        ``None``: SpaceR's 1024 with thinking, 128 without.
    seed, batch_size : int
    limit : int or None
        Only the first so many rows.
    """

    mode: str | None = None
    condition: str = "own"
    extraction: str = "strict"
    frames: int = 32
    size: int | None = None
    max_pixels: int | None = 448 * 28 * 28
    frames_as: str | None = None
    temperature: float = 0.01
    top_p: float = 1.0
    max_new_tokens: int | None = None
    seed: int = 0
    batch_size: int = 8
    limit: int | None = None

    def __post_init__(self):
        for field in fields(self):
            value = getattr(self, field.name)
            kinds = get_args(field.type) or (field.type,)
            if field.type is float and type(value) is int:
                continue
            if type(value) not in kinds:
                names = ("null" if k is NoneType else k.__name__ for k in kinds)
                raise SpacerError(field.name, got=value, expected=" or ".join(names))
            least = 0 if field.name in ("seed", "temperature") else 1e-9
            if isinstance(value, int | float) and value < least:
                raise SpacerError(field.name, got=value, expected="more than 0")
        if self.frames_as not in (*FRAMES_AS, None):
            raise SpacerError(
                "frames_as", got=self.frames_as, expected=" or ".join(FRAMES_AS)
            )

    def video(self, default="video"):
        """How videos are shown; ``default`` stands in for ``frames_as``."""
        return VideoSettings(
            self.frames,
            self.size,
            self.max_pixels,
            as_images=(self.frames_as or default) == "images",
        )

    def arguments(self):
        """The keyword arguments of ``runner.run`` beside ``video``."""
        values = asdict(self)
        shown = ("frames", "size", "max_pixels", "frames_as")
        return {key: value for key, value in values.items() if key not in shown}


def load_evaluation(name=None, **given):
    """Settings of a file, by name or path, with those that are given put over them.

    Parameters
    ----------
    name : str or path, optional
        ``tiny`` means ``configs/evaluate/tiny.yaml``; anything with a suffix is a
        path. Without it: SpaceR's settings.
    given
        Keys of ``EvaluationConfig``; ``None`` is not given.

    Raises
    ------
    SpacerError
        For an unknown file or key, or a value of another type.
    """
    values = {}
    if name is not None:
        path = Path(name) if Path(name).suffix else CONFIGS / f"{name}.yaml"
        known = sorted(file.stem for file in CONFIGS.glob("*.yaml"))
        try:
            values = yaml.safe_load(path.read_text(encoding="utf-8"))
        except FileNotFoundError as error:
            raise SpacerError(
                "evaluation settings",
                got=name,
                expected=", ".join(known) + ", or a file",
            ) from error
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
            raise SpacerError(f"{path} cannot be read", got=error) from error
        keys = [field.name for field in fields(EvaluationConfig)]
        if not isinstance(values, dict) or not set(values) <= set(keys):
            raise SpacerError(
                f"{path}",
                got=", ".join(map(str, values or ["nothing"])),
                expected=", ".join(keys),
            )
    values |= {key: value for key, value in given.items() if value is not None}
    return EvaluationConfig(**values)
