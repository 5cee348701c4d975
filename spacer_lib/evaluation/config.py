"""How a benchmark is asked: SpaceR's settings, unless a file or an option differs."""

import math
from dataclasses import dataclass
from typing import Any

from spacer_lib.artifacts import PROJECT_ROOT, PathLike
from spacer_lib.errors import SpacerError
from spacer_lib.evaluation.conditions import CONDITIONS
from spacer_lib.language.asking import AskSettings
from spacer_lib.language.prompts import MAP_MODES, MODES
from spacer_lib.rooms.frames import Sampler, VideoSettings
from spacer_lib.settings import build, read_yaml

CONFIGS = PROJECT_ROOT / "configs" / "evaluate"
FRAMES_AS = ("video", "images")
EXTRACTIONS = (
    "strict",
    "official",
    "final_answer",
    "official_after_tag",
    "spacer_released",
    "video_r1",
    "lmms_eval",
    "vlmevalkit",
    "easi",
    "strict+fallback",
)


def new_tokens(mode: str) -> int:
    """SpaceR's most new tokens: 1024 with thinking, 128 without (appendix)."""
    return 1024 if mode in ("think", *MAP_MODES, "observe") else 128


@dataclass(frozen=True)
class EvaluationConfig:
    """The settings of ``spacer evaluate``, as a file in ``configs/evaluate`` has them.

    Attributes
    ----------
    mode : str or None
        Answer mode; ``None``: the benchmark's own, with thinking on spatial ones.
    condition, extraction : str
        See ``runner.run``.
    frames, size, max_pixels : int, int or None, int or None
        See ``VideoSettings``. 32 frames of at most 448 x 28 x 28 pixels: SpaceR §5.1.
    min_pixels : int or None
        See ``VideoSettings``; it needs ``max_pixels``.
    sampler : Sampler or None
        Another rule of sampling than ours.
    frames_as : str or None
        ``video`` or ``images``; ``None``: images for a server, since it may take
        nothing else, and otherwise a video.
    temperature, top_p : float
        0.01 is SpaceR's.
    max_new_tokens : int or None
        ``None``: SpaceR's, see ``new_tokens``.
    seed, batch_size : int
    limit : int or None
        Only the first rows, this many.

    Raises
    ------
    SpacerError
        For a value out of range.
    """

    mode: str | None = None
    condition: str = "own"
    extraction: str = "strict"
    frames: int = 32
    size: int | None = None
    max_pixels: int | None = 448 * 28 * 28
    min_pixels: int | None = None
    sampler: Sampler | None = None
    frames_as: str | None = None
    temperature: float = 0.01
    top_p: float = 1.0
    max_new_tokens: int | None = None
    seed: int = 0
    batch_size: int = 8
    limit: int | None = None

    def __post_init__(self) -> None:
        pixels = ("frames", "size", "max_pixels", "min_pixels")
        positive = (*pixels, "top_p", "max_new_tokens")
        for name in (*positive, "batch_size", "limit", "seed", "temperature"):
            value, zero = getattr(self, name), name in ("seed", "temperature")
            if value is not None and not (0 < value < math.inf or zero and value == 0):
                raise SpacerError(
                    f"setting {name}",
                    kind="evaluation.setting-out-of-range",
                    got=value,
                    expected="0 or more" if zero else "more than 0",
                )
        least, most = self.min_pixels or 0, self.max_pixels or 0
        for name, holds, expected in (
            ("top_p", self.top_p <= 1, "1 or less"),
            ("seed", self.seed < 2**32, "less than 2**32"),
            ("min_pixels", least <= most, "max_pixels at most"),
            ("mode", self.mode in (None, *MODES), ", ".join(MODES)),
            ("condition", self.condition in CONDITIONS, ", ".join(CONDITIONS)),
            ("extraction", self.extraction in EXTRACTIONS, ", ".join(EXTRACTIONS)),
            ("frames_as", self.frames_as in (None, *FRAMES_AS), " or ".join(FRAMES_AS)),
        ):
            if not holds:
                raise SpacerError(
                    f"setting {name}",
                    kind="evaluation.setting-out-of-range",
                    got=getattr(self, name),
                    expected=expected,
                )

    def settings(self, mode: str, frames_as: str = "video") -> AskSettings:
        """What a backend is asked with.

        Parameters
        ----------
        mode : str
            The benchmark's own, where the config names none.
        frames_as : str
            How videos are shown, where the config does not say.
        """
        mode = self.mode or mode
        return AskSettings(
            mode,
            VideoSettings(
                self.frames,
                self.size,
                self.max_pixels,
                as_images=(self.frames_as or frames_as) == "images",
                min_pixels=self.min_pixels,
                sampler=self.sampler,
            ),
            self.max_new_tokens or new_tokens(mode),
            self.temperature,
            self.top_p,
            self.seed,
            self.batch_size,
        )


def load_evaluation(name: PathLike | None = None, **given: Any) -> EvaluationConfig:
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
        For an unknown file or key, or a value of another type or out of range.
    """
    values: dict[str, Any] = {}
    if name is not None:
        values = read_yaml(name, CONFIGS, what="evaluation settings")
    values |= {key: value for key, value in given.items() if value is not None}
    return build(EvaluationConfig, values)
