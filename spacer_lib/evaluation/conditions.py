"""What a model is shown in place of, or beside, a question's own media."""

from dataclasses import replace

import numpy as np

from spacer_lib.errors import SpacerError
from spacer_lib.maps.text import map_to_text
from spacer_lib.rooms.scene import space_of

# own: the question's own video or images · other: another room's, own truth · blind:
# none · shuffled: own video, frames in a drawn order · oracle: own video and the true
# map, written as the start of the response · random_map: a map of random cells there.
CONDITIONS = ("own", "other", "blind", "shuffled", "oracle", "random_map")
WITH_MAP = ("oracle", "random_map")  # the response is forced to begin with a map


def condition_video(video, condition, seed):
    """The settings of frames under a condition; only ``shuffled`` changes them."""
    return replace(video, shuffle=seed) if condition == "shuffled" else video


def random_map(row, seed=0, grid_size=10):
    """The true map's categories and counts in uniformly random cells.

    Keyed by seed and row id: the same map in any order and any process.
    """
    rng = np.random.default_rng([seed, *str(row["id"]).encode()])
    return {
        name: rng.integers(grid_size, size=(len(row["map"][name]), 2)).tolist()
        for name in sorted(row["map"])
    }


def condition_rows(rows, condition, seed=0, grid_size=10):
    """What a condition shows; ``condition_video`` says in which order.

    Parameters
    ----------
    rows : list of dict
    condition : str
        One of ``CONDITIONS``.
    seed, grid_size : int
        Of random maps.

    Returns
    -------
    shown : list of dict
        The rows; under ``other`` each carries the video, or the images, of the next
        room (in order of appearance, the last takes the first's) that has such, with
        its own answer and map.
    prefixes : list of str or None
        Under ``oracle`` and ``random_map``, each response starts with that map, the
        question's categories last.
    blind : bool

    Raises
    ------
    SpacerError
        For an unknown condition, ``other`` with a single room, or a forced map where
        a row has none.
    """
    if condition not in CONDITIONS:
        raise SpacerError("condition", got=condition, expected=CONDITIONS)
    prefixes = None
    if condition in WITH_MAP:
        bare = [row["id"] for row in rows if not row.get("map")]
        if bare:
            raise SpacerError(f"condition {condition}", got=f"no map in row {bare[0]}")
        maps = [
            row["map"] if condition == "oracle" else random_map(row, seed, grid_size)
            for row in rows
        ]
        prefixes = [
            f"<think><map>{map_to_text(cells, row.get('categories') or ())}</map>"
            for cells, row in zip(maps, rows, strict=True)
        ]
    if condition == "other":
        rows = _exchanged(_exchanged(rows, "video"), "image")
    return rows, prefixes, condition == "blind"


def _exchanged(rows, kind):
    media = {}
    for row in rows:
        if row.get(kind):
            media.setdefault(space_of(row["scene_name"]), row[kind])
    spaces = list(media)
    if len(spaces) == 1:
        raise SpacerError(
            "condition other", got=f"1 room with {kind}s", expected="two or more"
        )
    after = dict(zip(spaces, spaces[1:] + spaces[:1], strict=True))
    return [
        {**row, kind: media[after[space_of(row["scene_name"])]]}
        if row.get(kind)
        else row
        for row in rows
    ]
