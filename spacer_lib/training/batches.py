"""Training rows by number, with their prompts' tokens and their media."""

import functools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from spacer_lib.errors import SpacerError
from spacer_lib.language.prompts import PromptStyle
from spacer_lib.models.inputs import (
    Media,
    MediaError,
    MediaUses,
    encode_media,
    encode_prompts,
)
from spacer_lib.rooms.frames import VideoSettings
from spacer_lib.rows import Question
from spacer_lib.training.prefetch import Prefetch

MAX_BROKEN = 0.1  # share of rows: if more cannot be read, the media folder is wrong

# A ``training.trainer.VideoGRPOTrainer``, which imports the modules of a step.
Trainer = Any


@dataclass(frozen=True)
class Batch:
    """Rows with their prompts, one entry for each completion to be drawn.

    Attributes
    ----------
    numbers : list of int
        Of the rows in the training set, as asked for.
    rows : list of Question
        Another row stands in where media cannot be read.
    prompt_ids : list of list of int
        Token ids, not padded.
    media : list of Media
        Pixels, grids and times (``encode_prompts``); rows that show the same share
        the object.
    video : VideoSettings
        By which the media were encoded.
    """

    numbers: list[int]
    rows: list[Question]
    prompt_ids: list[list[int]]
    media: list[Media]
    video: VideoSettings


@dataclass(frozen=True)
class Completions:
    """Completions of a batch, one for each entry.

    Attributes
    ----------
    ids : list of list of int
        Token ids up to and with the first end token.
    texts : list of str
        Without special tokens.
    logps : list of list of float, optional
        Log-probabilities at the program that sampled, if that was vLLM.
    """

    ids: list[list[int]]
    texts: list[str]
    logps: list[list[float | None]] | None = None


@dataclass(frozen=True)
class Earned:
    """Rewards of all ranks.

    Attributes
    ----------
    components : (n, components) tensor
        Weights applied; NaN where a component does not apply.
    total : (n,) tensor
    advantages : (n,) tensor
    metrics : dict
        Numbers that reward functions log, of this rank.
    """

    components: torch.Tensor
    total: torch.Tensor
    advantages: torch.Tensor
    metrics: dict[str, list[float]]


class RowSource:
    """The training rows. It reads media ahead and replaces rows with broken media.

    Parameters
    ----------
    processor : processor of a Qwen-VL model
    rows : list of Question
    style : PromptStyle or str
        See ``encode_prompts``.
    video : VideoSettings

    Attributes
    ----------
    broken : set of int
        Numbers of rows whose media cannot be read.
    asked : callable
        Numbers of the rows that the run will show, once for each use.
    """

    def __init__(
        self,
        processor: Any,
        rows: list[Question],
        style: PromptStyle | str,
        video: VideoSettings,
    ) -> None:
        self.processor, self.rows = processor, rows
        self.style, self.video = style, video
        self.broken: set[int] = set()
        self.asked: Callable[[], Iterable[int]] = tuple
        self._prefetch = Prefetch(self._encode_media)

    def row(self, number: int) -> Question:
        """The row of this number, or the next one whose media can be read.

        By number, so that ranks that share a group agree.
        """
        while number in self.broken:
            number = (number + 1) % len(self.rows)
        return self.rows[number]

    def prefetch(self, numbers: Sequence[int]) -> None:
        """Begin to read the media of a later ``load`` of the same numbers."""
        self._prefetch.start(numbers)

    def load(
        self,
        numbers: Sequence[int],
        *,
        row: Callable[[int], Question] | None = None,
        video: VideoSettings | None = None,
    ) -> Batch:
        """Rows, tokens and media; a row with broken media is replaced.

        Parameters
        ----------
        numbers : list of int
        row : callable, optional
            Number → what is asked in place of that row; a control's
            (``training.controls``), like ``video``.
        video : VideoSettings, optional

        Raises
        ------
        SpacerError
            If more than ``MAX_BROKEN`` of all rows have broken media.
        """
        ahead = row is None and video is None
        ready = self._prefetch.take(numbers) if ahead else None
        row, video = row or self.row, video or self.video
        while True:
            rows = [row(number) for number in numbers]
            try:
                ids, media = encode_prompts(
                    self.processor, rows, self.style, video, ready=ready
                )
            except MediaError as error:
                self._leave_out(error)
            else:
                return Batch(list(numbers), rows, ids, media, video)

    @functools.cached_property
    def _uses(self) -> MediaUses:
        rows = map(self.rows.__getitem__, self.asked())
        return MediaUses(self.processor, rows, self.video)

    def shown(self, batch: Batch, uses: int = 1) -> None:
        """Note that a step has the media of a batch; the last use frees them.

        ``uses`` is 0 for a control, whose use is not among those that ``asked`` counts.
        """
        rows = dict(zip(batch.numbers, batch.rows, strict=True)).values()
        left = self._uses
        if batch.video != self.video:  # the shuffle of one step
            left = MediaUses(self.processor, (), batch.video)
        left.used(rows, uses)

    def _encode_media(self, numbers: Sequence[int]) -> dict:
        rows = [self.row(number) for number in dict.fromkeys(numbers)]
        return encode_media(self.processor, rows, self.style, self.video)

    def _leave_out(self, error: MediaError) -> None:
        """Mark the rows of one unreadable file as broken."""
        paths = (row.get("video") or row.get("image") for row in self.rows)
        self.broken.update(
            number
            for number, path in enumerate(paths)
            if path == error.source or isinstance(path, list) and error.source in path
        )
        print(f"skipped from now on: {error}", flush=True)
        if len(self.broken) > MAX_BROKEN * len(self.rows):
            raise SpacerError(
                "media of the training rows",
                kind="training.broken-media",
                got=f"{len(self.broken)} of {len(self.rows)} rows unreadable, such as "
                f"{error.source}",
                expected=f"at most {MAX_BROKEN:.0%}",
                remedy="make the videos again, or drop the rows",
            ) from error
