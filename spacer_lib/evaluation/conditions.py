"""What a model is shown in place of, or beside, a question's own video."""

import numpy as np

from spacer_lib.cogmap import map_to_text
from spacer_lib.errors import SpacerError
from spacer_lib.qa.dataset import space_of

# own: the room's own video · other: another room's video, own truth · blind: no video
# · oracle: own video and the true map, written as the start of the response
# · random_map: the same with a map of random cells.
CONDITIONS = ("own", "other", "blind", "oracle", "random_map")
WITH_MAP = ("oracle", "random_map")  # the response is forced to begin with a map


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
    """What a condition shows.

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
        The rows; under ``other`` each carries the video of the next room (in order of
        appearance, the last takes the first's), with its own answer and map.
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
        videos = {}
        for row in rows:
            videos.setdefault(space_of(row["scene_name"]), row["video"])
        spaces = list(videos)
        if len(spaces) < 2:
            raise SpacerError(
                "condition other", got=f"{len(spaces)} room", expected="two or more"
            )
        after = dict(zip(spaces, [*spaces[1:], spaces[0]], strict=True))
        rows = [
            {**row, "video": videos[after[space_of(row["scene_name"])]]} for row in rows
        ]
    return rows, prefixes, condition == "blind"
