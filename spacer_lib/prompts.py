"""What the model is asked: question, options, and how to answer.

``think``      reason, then answer
``think_map``  draw the map, reason, then answer
``direct``     answer at once
``tiny``       question and options alone: the tiny model's warm start taught the rest

The map's frame is stated (columns with +x, rows with +y), which the paper's prompt
does not do. Its example is no readable map: copying it earns nothing.
"""

from spacer_lib.errors import SpacerError

MODES = ("think", "think_map", "direct", "tiny")

_ANSWER_FORMS = {
    "multiple choice": "the letter of the right option",
    "numerical": "one number in digits",
    "regression": "one number in digits",
    "option-free": "the words of your choice",
    "ocr": "the text you read, word for word",
    "free-form": "a short answer",
}


def user_text(row, mode, grid_size=10):
    """The text part of a prompt.

    Parameters
    ----------
    row : dict
        Question row: ``question``, ``problem_type`` and ``options`` (``None``, or
        lines such as ``A. table``).
    mode : str
        One of ``MODES``.
    grid_size : int
        M, named in ``think_map``.

    Raises
    ------
    SpacerError
        For an unknown mode or problem type.
    """
    if mode not in MODES:
        raise SpacerError("prompt mode", got=mode, expected=", ".join(MODES))
    asked = "\n".join([row["question"], *(row["options"] or ())])
    if mode == "tiny":
        return asked
    kind = row["problem_type"]
    if kind not in _ANSWER_FORMS:
        raise SpacerError("problem type", got=kind, expected=", ".join(_ANSWER_FORMS))
    form = f"Inside <answer></answer> write only {_ANSWER_FORMS[kind]}."
    if mode == "direct":
        return f"{asked}\n\nAnswer at once, without any explanation. {form}"
    blocks = "Write two blocks: your reasoning inside <think></think>, then the answer."
    if mode == "think":
        return f"{asked}\n\n{blocks} {form}"
    return f"{asked}\n\n{blocks} {form}\n\n{_map_text(grid_size)}"


def _map_text(grid_size):
    last = grid_size - 1
    return (
        "Begin your reasoning with a map of the room seen from above, inside "
        f"<map></map>. Divide the floor into {grid_size} x {grid_size} cells. Columns "
        f"run from 0 to {last} towards the right (east, +x); rows run from 0 to {last} "
        "towards the top (north, +y). As one line of JSON, give for every kind of "
        "object the cell at the centre of each one that you see: "
        '{"kind":[[column,row],[column,row]],"other kind":[[column,row]]}. '
        "Then use the map to work out the answer."
    )


def messages(row, mode, grid_size=10):
    """One user turn in chat format: the video, then the text.

    ``row["video"]`` is passed on as it is (a path or ``room://`` address); frames are
    read only where they are needed.
    """
    content = [
        {"type": "video", "video": row["video"]},
        {"type": "text", "text": user_text(row, mode, grid_size)},
    ]
    return [{"role": "user", "content": content}]
