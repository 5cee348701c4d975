"""What a model is shown in place of, or beside, a question's own video."""

from spacer_lib.cogmap import map_to_text
from spacer_lib.errors import SpacerError
from spacer_lib.qa.dataset import space_of

# own: the room's own video · other: another room's video, own truth · blind: no video
# · oracle: own video and the true map, written as the start of the response.
CONDITIONS = ("own", "other", "blind", "oracle")


def condition_rows(rows, condition):
    """What a condition shows.

    Returns
    -------
    shown : list of dict
        The rows; under ``other`` each carries the video of the next room (in order of
        appearance, the last takes the first's), with its own answer and map.
    prefixes : list of str or None
        Under ``oracle``, each response starts with the true map, the question's
        categories last.
    blind : bool

    Raises
    ------
    SpacerError
        For an unknown condition, or ``other`` with a single room.
    """
    if condition not in CONDITIONS:
        raise SpacerError("condition", got=condition, expected=CONDITIONS)
    prefixes = None
    if condition == "oracle":
        prefixes = [
            f"<think><map>{map_to_text(row['map'], last=row['categories'])}</map>"
            for row in rows
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
