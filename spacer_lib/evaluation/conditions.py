"""What a model is shown in place of, or beside, a question's own media."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, cast

import numpy as np

from spacer_lib.errors import SpacerError, nearest
from spacer_lib.language.tags import begin_with_map
from spacer_lib.rooms.frames import VideoSettings
from spacer_lib.rooms.scene import first_of_spaces, space_of
from spacer_lib.rows import CognitiveMap, Question

# own: the question's own video or images. other: another room's, with the own truth.
# blind: none. shuffled: own video, frames in random order. oracle: own video, and the
# response is forced to begin with the true map. random_map: with a map of random cells.
CONDITIONS = ("own", "other", "blind", "shuffled", "oracle", "random_map")
WITH_MAP = ("oracle", "random_map")  # the response is forced to begin with a map

Begin = Callable[[Question, CognitiveMap], str]  # start of a response with a map


def condition_video(video: VideoSettings, condition: str, seed: int) -> VideoSettings:
    """The settings of frames under a condition; only ``shuffled`` changes them."""
    return replace(video, shuffle=seed) if condition == "shuffled" else video


def random_map(row: Question, seed: int = 0, grid_size: int = 10) -> CognitiveMap:
    """The true map's categories and counts in uniformly random cells.

    Keyed by seed and row id: the same map in any order and any process.
    """
    rng = np.random.default_rng([seed, *str(row["id"]).encode()])
    true = row["map"] or {}
    return {
        name: rng.integers(grid_size, size=(len(true[name]), 2)).tolist()
        for name in sorted(true)
    }


def condition_rows(
    rows: Sequence[Question],
    condition: str,
    seed: int = 0,
    grid_size: int = 10,
    begin: Begin = begin_with_map,
) -> tuple[list[Question], list[str] | None, bool]:
    """What a condition shows; ``condition_video`` gives the order of frames.

    Parameters
    ----------
    rows : list of Question
    condition : str
        One of ``CONDITIONS``.
    seed, grid_size : int
        Of random maps.
    begin : callable
        How a response with a forced map begins.

    Returns
    -------
    shown : list of Question
        The rows. Under ``other`` each has the video, or the images, of the next room
        that has one, in order of appearance; the last room has the first's. Answer and
        map stay the row's own.
    prefixes : list of str or None
        Under ``oracle`` and ``random_map``, the start of each response.
    blind : bool

    Raises
    ------
    SpacerError
        For an unknown condition, for ``other`` with a single room, or if a map is
        forced and a row has none.
    """
    if condition not in CONDITIONS:
        raise SpacerError(
            "condition",
            kind="evaluation.unknown-condition",
            got=condition,
            expected=", ".join(CONDITIONS),
            remedy=nearest(condition, CONDITIONS),
        )
    prefixes = None
    if condition in WITH_MAP:
        bare = [row["id"] for row in rows if not row.get("map")]
        if bare:
            raise SpacerError(
                f"condition {condition}",
                kind="evaluation.no-true-map",
                got=f"no map in row {bare[0]}",
                expected="a true map in every row",
            )
        maps = [
            (row["map"] or {})
            if condition == "oracle"
            else random_map(row, seed, grid_size)
            for row in rows
        ]
        prefixes = [begin(row, cells) for row, cells in zip(rows, maps, strict=True)]
    if condition == "other":
        rows = _exchanged(_exchanged(rows, "video"), "image")
    return list(rows), prefixes, condition == "blind"


def next_rooms(rows: Sequence[Question], kind: str = "video") -> dict[str, Question]:
    """Space → a row of the next room, in order of appearance; the first after the last.

    Only rows with media of that kind count. Under ``other`` a row shows the media of
    its next room.

    Raises
    ------
    SpacerError
        With a single room.
    """
    first = first_of_spaces(rows, kind)
    spaces = list(first)
    if len(spaces) == 1:
        raise SpacerError(
            "condition other",
            kind="evaluation.one-room",
            got=f"1 room with {kind}s",
            expected="two or more",
        )
    after = zip(spaces, spaces[1:] + spaces[:1], strict=True)
    return {space: rows[first[other]] for space, other in after}


def _exchanged(rows: Sequence[Question], kind: str) -> list[Question]:
    plain = cast(Sequence[dict[str, Any]], rows)
    after = cast(dict[str, dict[str, Any]], next_rooms(rows, kind))
    exchanged = [
        {**row, kind: after[space_of(row["scene_name"])][kind]}
        if row.get(kind)
        else row
        for row in plain
    ]
    return cast(list[Question], exchanged)
