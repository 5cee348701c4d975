"""What a model is shown in place of, or beside, a question's own media."""

from dataclasses import replace

from spacer_lib.cogmap import map_to_text
from spacer_lib.errors import SpacerError
from spacer_lib.qa.dataset import space_of

# own: the question's own video or images · other: another room's, own truth · blind:
# none · shuffled: own video, frames in a drawn order · oracle: own video and the true
# map, written as the start of the response.
CONDITIONS = ("own", "other", "blind", "shuffled", "oracle")


def condition_video(video, condition, seed):
    """The settings of frames under a condition; only ``shuffled`` changes them."""
    return replace(video, shuffle=seed) if condition == "shuffled" else video


def condition_rows(rows, condition):
    """What a condition shows; ``condition_video`` says in which order.

    Returns
    -------
    shown : list of dict
        The rows; under ``other`` each carries the video, or the images, of the next
        room (in order of appearance, the last takes the first's) that has such, with
        its own answer and map.
    prefixes : list of str or None
        Under ``oracle``, each response starts with the true map, the question's
        categories last.
    blind : bool

    Raises
    ------
    SpacerError
        For an unknown condition, ``other`` with a single room, or ``oracle`` with rows
        that have no map.
    """
    if condition not in CONDITIONS:
        raise SpacerError("condition", got=condition, expected=CONDITIONS)
    prefixes = None
    if condition == "oracle":
        bare = next((row["id"] for row in rows if not row.get("map")), None)
        if bare is not None:
            raise SpacerError("condition oracle", got=f"no map in row {bare}")
        drawn = (map_to_text(r["map"], last=r.get("categories") or ()) for r in rows)
        prefixes = [f"<think><map>{text}</map>" for text in drawn]
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
        {**row, kind: media[after[space_of(row["scene_name"])]]} if row.get(kind)
        else row
        for row in rows
    ]  # fmt: skip
