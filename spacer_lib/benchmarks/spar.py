"""SPAR-Bench: twenty tasks on one or several pictures of a room.

``id, image, question, answer, task, img_type`` (also ``format_type`` and ``source``) in
``data/test-*-of-*.parquet``, all parts of it. ``image`` is a list of ``{bytes, path}``;
the pictures are unpacked once, unopened, into ``.images`` beside the parts. Options
stand in the question's own lines and become ``options`` where they are well-formed.

The rule is that of lmms-eval's task ``sparbench``, which the authors point to:

===========  ========================================================================
``choice``   letters up to case; an output within the truth is right too, so an empty
             one is, and so is "Based on …" where B is right
``number``   one number of the output by mean relative accuracy: the first with one
             picture, the last with several
``motion``   ``move_right:0.5,rotate_left:30,…``: mean relative accuracy on five axes,
             relative to the output rather than the truth; silence on an axis is right
             where the truth is 0
===========  ========================================================================

Overall is the mean of the tasks. The published tables average ``view_change_infer``
into the middle level; the released code cuts its name short and leaves it out
(``released``). SpaceR's released evaluation takes the mean of the tasks too; code
derived from it weights them by their rows, which is ``micro``.

Source: Zhang et al., "From Flatland to Space" (SPAR-Bench, jasonzhango/SPAR-Bench).
"""

import math
import re
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from spacer_lib.artifacts import Manifest, atomic_path, config_hash
from spacer_lib.benchmarks import rules
from spacer_lib.benchmarks.schema import Benchmark, Verdict, find_file, read_table
from spacer_lib.errors import SpacerError
from spacer_lib.language.choices import labelled_options, read_choice
from spacer_lib.language.tags import read_completion
from spacer_lib.rewards.metrics import mean_relative_accuracy

# task: (level, kind of answer). "oo": between objects, "oc": from the camera, "mv":
# over several views.
TASKS = {
    "depth_prediction_oc": ("Low", "number"),
    "depth_prediction_oo": ("Low", "number"),
    "distance_prediction_oc": ("Low", "number"),
    "distance_prediction_oo": ("Low", "number"),
    "depth_prediction_oc_mv": ("Low", "number"),
    "depth_prediction_oo_mv": ("Low", "number"),
    "distance_prediction_oo_mv": ("Low", "number"),
    "distance_prediction_oc_mv": ("Low", "number"),
    "view_change_infer": ("Middle", "motion"),
    "position_matching": ("Middle", "choice"),
    "camera_motion_infer": ("Middle", "choice"),
    "obj_spatial_relation_oo": ("High", "choice"),
    "obj_spatial_relation_oc_mv": ("High", "choice"),
    "obj_spatial_relation_oo_mv": ("High", "choice"),
    "spatial_imagination_oc": ("High", "choice"),
    "spatial_imagination_oo": ("High", "choice"),
    "spatial_imagination_oc_mv": ("High", "choice"),
    "spatial_imagination_oo_mv": ("High", "choice"),
    "distance_infer_center_oo": ("High", "choice"),
    "distance_infer_center_oo_mv": ("High", "choice"),
}
LEVELS = ("Low", "Middle", "High")
AXES = (  # positive, negative
    ("move_right", "move_left"),
    ("move_up", "move_down"),
    ("move_forward", "move_backward"),
    ("rotate_right", "rotate_left"),
    ("rotate_up", "rotate_down"),
)
COLUMNS = {
    "id": (int, str),
    "question": str,
    "answer": str,
    "task": str,
    "img_type": str,
}
_CONFIDENCES = np.linspace(0.5, 0.95, 10)
_MAGIC = {b"\x89PNG": ".png", b"\xff\xd8\xff": ".jpg"}


def read_rows(path):
    """Rows of SPAR-Bench, its pictures unpacked.

    A row's cluster is the scan that its id begins with, if it does so, else the row
    itself: the published ids are numbers.

    Parameters
    ----------
    path : path
        The published folder, or one part of it.

    Raises
    ------
    SpacerError
        If a file is not as published, a part is missing, or the folder of the
        pictures cannot be written.
    """
    return [
        _row(record, images, file, number)
        for file in _parts(path)
        for number, (record, images) in enumerate(
            zip(read_table(file, COLUMNS, skip=["image"]), unpack(file), strict=True),
            start=1,
        )
    ]


def _parts(path):
    names = ["data/test*.parquet", "test*.parquet", "*.parquet"]
    first = find_file(path, names)
    if Path(path).is_file():
        return [first]
    parts = sorted(first.parent.glob("*.parquet"))
    whole = re.search(r"-of-0*(\d+)$", first.stem)
    if whole and len(parts) != int(whole[1]):
        raise SpacerError(
            f"parts in {first.parent}",
            got=[part.name for part in parts],
            expected=f"{whole[1]} of them",
            remedy="download the rest",
        )
    return parts


def unpack(file):
    """The pictures of a file, each written once, whole.

    Parameters
    ----------
    file : Path

    Returns
    -------
    list of list of str
        Per row the paths: ``.images/{file}/{row}_{picture}.png`` or ``.jpg``. Bytes
        are copied as they are; whoever shows a picture decodes it.

    Raises
    ------
    SpacerError
        If a row holds anything but PNG and JPEG bytes.
    """
    stat, folder = file.stat(), file.parent / ".images"
    fingerprint = config_hash([file.name, stat.st_size, stat.st_mtime_ns])
    with pq.ParquetFile(file) as table:
        if "image" not in table.schema_arrow.names:
            raise SpacerError(
                f"{file}: column image is missing",
                got=table.schema_arrow.names,
                expected=["image", *COLUMNS],
                remedy="use the file as it is published",
            )
        rows = [[] for _ in range(table.metadata.num_rows)]
        with Manifest(folder) as manifest:
            if manifest.done(file.name, fingerprint):
                names = manifest.entries[file.name]["files"]
            else:
                names = list(_write_images(table, file, folder))
                manifest.record(file.name, fingerprint, names)
    for name in names:
        rows[int(Path(name).stem.split("_")[0]) - 1].append(str(folder / name))
    return rows


def _write_images(table, file, folder):
    """Yield the names of the pictures, relative to ``folder``, as they are written."""
    number = 0
    for batch in table.iter_batches(64, columns=["image"]):
        for value in batch["image"].to_pylist():
            number += 1
            for index, data in enumerate(_bytes(value, f"{file} row {number}")):
                (suffix,) = (_MAGIC[mark] for mark in _MAGIC if data.startswith(mark))
                name = f"{file.stem}/{number}_{index}{suffix}"
                with atomic_path(folder / name) as temporary:
                    temporary.write_bytes(data)
                yield name


def _bytes(value, where):
    parts = value if isinstance(value, list) else [value]
    found = [part.get("bytes") if isinstance(part, dict) else part for part in parts]
    for data in found or [None]:
        if not isinstance(data, bytes) or not data.startswith(tuple(_MAGIC)):
            raise SpacerError(
                f"{where}: column image",
                got=repr(data)[:40],
                expected="a list of bytes of PNG or JPEG pictures",
            )
    return found


def _row(record, images, file, number):
    task, answer = record["task"], record["answer"]
    if task not in TASKS:
        raise SpacerError(
            f"{file} row {number}: task", got=task, expected=", ".join(TASKS)
        )
    level, kind = TASKS[task]
    _require(answer.strip(), file, number, answer, "an answer")
    question, options = record["question"], None
    if kind == "choice":
        question, options = _split_options(question, answer)
        # A truth that is no letter is published for no task, but scored all the same.
        lettered = read_choice(answer, options)
        problem = "multiple choice" if lettered else "option-free"
    elif kind == "number":
        problem = "numerical"
        _require(_is_number(answer), file, number, answer, "a finite number")
    else:
        problem = "option-free"
        good = _is_motion(_motion(answer))
        _require(good, file, number, answer, "move_right:0.5,rotate_up:3,…")
    scan = re.match(r"scene\d+_\d+", str(record["id"]))
    return {
        "id": str(record["id"]),
        "published_id": record["id"],
        "dataset": record.get("source"),
        "scene_name": scan[0] if scan else str(record["id"]),
        "question_type": task,
        "problem_type": problem,
        "question": question,
        "options": options,
        "ground_truth": answer,
        "image": images,
        "groups": {"img_type": record["img_type"], "level": level},
    }


def _require(good, file, number, answer, expected):
    if not good:
        raise SpacerError(
            f"{file} row {number}: answer", got=repr(answer)[:80], expected=expected
        )


def _is_number(answer):
    try:
        return math.isfinite(float(answer))
    except ValueError:
        return False


_OPTION_LINE = re.compile(r"[ \t]*([A-Z])\.[ \t]*(.*?)[ \t]*")


def _split_options(question, answer):
    """(question without its lines of options, options), or both left as they are.

    The lines must be lettered A, B, C … with the answer among them.
    """
    lines = question.split("\n")
    found = [_OPTION_LINE.fullmatch(line) for line in lines]
    options = [f"{match[1]}. {match[2]}" for match in found if match]
    letters = [option[0] for option in options]
    if (
        len(options) < 2
        or letters != [chr(65 + i) for i in range(len(options))]
        or answer.strip().upper() not in labelled_options(options)
    ):
        return question, None
    rest = [line for line, match in zip(lines, found, strict=True) if not match]
    return "\n".join(rest).strip(), options


_DIGITS = re.compile(r"(?<!\^)\d+\.\d+|(?<!\^)\d+")


def official(text, row):
    """The published rule, faults included; see the module's table."""
    return _OFFICIAL[TASKS[row["question_type"]][1]](text, row)


def _official_choice(text, row):
    said, truth = text.lower(), row["ground_truth"].lower()
    right = said in truth or said[0] == truth
    return Verdict(float(right), text or None, None if text else "empty_output")


def _official_number(text, row):
    try:
        # A number too long to convert spoils the others, as in the original.
        numbers = [float(d) if "." in d else int(d) for d in _DIGITS.findall(text)]
        if row["question_type"].endswith("_mv"):
            numbers = [numbers[-1] if numbers else -1]
        value, truth = float(numbers[0]), float(row["ground_truth"])
    except (IndexError, ValueError, OverflowError):
        return Verdict(0.0, None, "no_number")
    score = _accuracy(value, truth)
    return Verdict(score, f"{value:.12g}", "no_number" if value < 0 else None)


def _official_motion(text, row):
    said, truth = _motion(text), _motion(row["ground_truth"])
    if said is None:
        return Verdict(0.0, None, "no_motion")
    scores = [_accuracy(_along(truth, axis), _along(said, axis)) for axis in AXES]
    return Verdict(float(np.mean(scores)), text)


_OFFICIAL = {
    "choice": _official_choice,
    "number": _official_number,
    "motion": _official_motion,
}


def _accuracy(prediction, target):
    """Mean relative accuracy without tolerance; errors are absolute for a target 0."""
    error = abs(prediction - target)
    if target != 0.0:
        error = abs((prediction - target) / target)
    return float((error <= 1 - _CONFIDENCES).mean())


def _motion(text):
    """``{name: value}`` of ``name:value,name:value``, or ``None``; names unchanged."""
    try:
        return {name: float(v) for name, v in (p.split(":") for p in text.split(","))}
    except ValueError:
        return None


def _along(motion, axis):
    forth, back = axis
    return motion.get(forth, 0) - motion.get(back, 0)


def _is_motion(said):
    names = {name for axis in AXES for name in axis}
    return bool(said) and set(said) <= names and all(map(math.isfinite, said.values()))


def strict(text, row):
    """``rules.strict``; a motion must name known movements, once, with finite values.

    Its score is the mean over the five axes of the mean relative accuracy, relative
    to the truth.
    """
    if row["question_type"] != "view_change_infer":
        return rules.strict(text, row)
    reading = read_completion(text, shape="vanilla")
    if not reading.answer:
        return Verdict(0.0, None, reading.failure or "empty_answer")
    said = _motion("".join(reading.answer.split()).removesuffix("."))
    if not _is_motion(said) or len(said) != reading.answer.count(":"):
        return Verdict(0.0, None, "no_motion")
    truth = _motion(row["ground_truth"])
    scores = [
        mean_relative_accuracy(_along(said, axis), _along(truth, axis)) for axis in AXES
    ]
    return Verdict(float(np.mean(scores)), reading.answer)


def aggregate(predictions):
    """The released code's means: of the tasks, and of each level's tasks.

    ``Middle`` lacks ``view_change_infer``. A level without any rows is left out.
    """
    scores = {}
    for made in predictions:
        scores.setdefault(made["question_type"], []).append(made["score"])
    tasks = {task: float(np.mean(values)) for task, values in scores.items()}
    levels = {level: [] for level in LEVELS}
    for task, value in tasks.items():
        if task != "view_change_infer":
            levels[TASKS[task][0]].append(value)
    means = {level: float(np.mean(each)) for level, each in levels.items() if each}
    return {"overall": float(np.mean(list(tasks.values()))), **means}


def benchmark():
    """SPAR-Bench."""
    return Benchmark(
        "spar",
        "SPAR-Bench",
        source="huggingface.co/datasets/jasonzhango/SPAR-Bench",
        read=read_rows,
        official=official,
        overall="macro",
        mode="think_map",
        strict=strict,
        aggregate=aggregate,
    )
