"""Benchmarks on pictures, and ReVSI, tiny."""

import base64
import json
from pathlib import Path

import numpy as np

from samples.square import COLOURS, clip, encoded, picture
from spacer_lib.artifacts import write_json, write_jsonl
from spacer_lib.benchmarks import blink, revsi, sitebench, threedsr
from spacer_lib.benchmarks.schema import write_parquet

_SETS = ("among", "around", "rotation", "translation")


def write_revsi(folder: Path, *, videos: int = 2, seed: int = 0) -> Path:
    """``16_frame/`` and ``32_frame/``: a question of each type on each video.

    A count is one more with 32 frames.
    """
    for budget in (16, 32):
        rows = []
        for index in range(videos):
            rng = np.random.default_rng([seed, index])
            scene = f"scene{index:04d}_00"
            clip(folder / f"{budget}_frame" / f"{scene}.mp4", _colour(rng))
            for kind in (*revsi.CHOICE, *revsi.NUMBER):
                options, letter = _options(rng, "left")
                number = str(int(rng.integers(1, 9)) + budget // 32)
                choice = kind in revsi.CHOICE
                rows.append(
                    {
                        "id": len(rows),
                        "num_frames": budget,
                        "dataset": "scannet",
                        "scene_id": scene,
                        "question_type": kind,
                        "question": "Where is the square, or how many are there?",
                        "options": options if choice else None,
                        "ground_truth": letter if choice else number,
                    }
                )
        write_parquet(folder / f"{budget}_frame/test-00000-of-00001.parquet", rows)
    return folder


def write_mmsi(folder: Path, *, videos: int = 2, seed: int = 0) -> Path:
    """``MMSI_Bench.parquet``: bytes of two or three pictures a row."""
    rows = []
    for index in range(videos):
        rng = np.random.default_rng([seed, index])
        options, letter = _options(rng, "left")
        texts = ", ".join(option.replace(".", ":", 1) for option in options)
        rows.append(
            {
                "id": index,
                "images": [_png(_colour(rng), 8 * i) for i in range(2 + index % 2)],
                "question_type": ("Motion (Cam.)", "MSR")[index % 2],
                "question": f"Where does the camera go?\nOptions: {texts}",
                "answer": letter,
                "thought": "The square moves.",
            }
        )
    write_parquet(folder / "MMSI_Bench.parquet", rows)
    return folder


def write_mindcube(folder: Path, *, videos: int = 2, seed: int = 0) -> Path:
    """``data/raw/*.jsonl`` and ``data/other_all_image/``: four settings a place."""
    rows = []
    for index in range(videos):
        rng = np.random.default_rng([seed, index])
        for name in _SETS:
            images = [
                f"other_all_image/{name}/place{index}/{view}.png"
                for view in ("front", "left")
            ]
            for place, image in enumerate(images):
                _write(folder / "data" / image, _png(_colour(rng), 8 * place))
            options, letter = _options(rng, "the red square")
            rows.append(
                {
                    "id": f"{name}_place{index}_q0",
                    "category": ["P2"],
                    "type": "2_frames",
                    "meta_info": [],
                    "question": f"What is behind you? {' '.join(options)}",
                    "images": images,
                    "gt_answer": letter,
                }
            )
    for name in ("MindCube", "MindCube_tinybench"):
        write_jsonl(folder / f"data/raw/{name}.jsonl", rows)
    return folder


def write_viewspatial(folder: Path, *, videos: int = 2, seed: int = 0) -> Path:
    """``ViewSpatial-Bench.json`` and its pictures, of scans and of COCO."""
    rows = []
    for index in range(videos):
        rng = np.random.default_rng([seed, index])
        name = f"scannetv2_val/scene{index:04d}_00/original_images/280.jpg"
        if index % 2:
            name = f"val2017/{index:012d}.jpg"
        _write(folder / name, encoded(picture(_colour(rng), 8), "JPEG"))
        options, letter = _options(rng, "left")
        kind = ("Camera", "Person")[index % 2]
        rows.append(
            {
                "question_type": f"{kind} perspective - Relative Direction",
                "image_path": [f"ViewSpatial-Bench/{name}"],
                "question": "Where is the square?",
                "answer": options["ABCD".index(letter)],
                "choices": "\n".join(options),
            }
        )
    write_json(folder / "ViewSpatial-Bench.json", rows)
    return folder


def write_embspatial(folder: Path, *, videos: int = 2, seed: int = 0) -> Path:
    """``embspatial_bench.json`` with pictures in base64."""
    rows = []
    for index in range(videos):
        rng = np.random.default_rng([seed, index])
        options, letter = _options(rng, "the square")
        source = ("mp3d", "ai2thor", "scannet")[index % 3]
        rows.append(
            {
                "data_source": source,
                "scene_id": f"{source}{index}",
                "question_id": f"{source}_{index}",
                "question": "Which object is nearest?",
                "relation": ("close", "far", "under")[index % 3],
                "image": base64.b64encode(_png(_colour(rng), 8)).decode(),
                "answer_options": [option[3:] for option in options],
                "answer": "ABCD".index(letter),
                "objects": [{"name": "the square", "bbox": [8, 16, 16, 16]}],
            }
        )
    write_json(folder / "embspatial_bench.json", rows)
    return folder


def write_blink(folder: Path, *, videos: int = 2, seed: int = 0) -> Path:
    """``{Task}/val-*.parquet`` of four tasks; one with two pictures a row."""
    for task in (*blink.SPATIAL, "Counting"):
        rows = []
        for index in range(videos):
            rng = np.random.default_rng([seed, index, len(task)])
            options, letter = _options(rng, "yes", count=2 + 2 * (task == "Counting"))
            second = {"bytes": _png("red", 16), "path": None}
            rows.append(
                {
                    "idx": f"val_{task}_{index + 1}",
                    "sub_task": task,
                    "question": "Is the square there?",
                    "prompt": "Is the square there? Select from the choices.",
                    "choices": [option[3:] for option in options],
                    "answer": f"({letter})",
                    "image_1": {"bytes": _png(_colour(rng), 8), "path": None},
                    "image_2": second if task == "Multi-view_Reasoning" else None,
                    "image_3": None,
                    "image_4": None,
                }
            )
        write_parquet(folder / task / "val-00000-of-00001.parquet", rows)
    return folder


def write_threedsr(folder: Path, *, videos: int = 2, seed: int = 0) -> Path:
    """The circular TSV: of each question four forms, with two or four options."""
    rows = []
    for index in range(videos):
        rng = np.random.default_rng([seed, index])
        category = list(threedsr.CATEGORIES)[5 * index % 12]
        for form in ("", "-1", "-flip", "-flip-1"):
            count = 2 + 2 * (index % 2)
            options, letter = _options(rng, "1", count=count)
            texts = [option[3:] for option in options] + [""] * (4 - count)
            row = {
                "index": len(rows),
                "qid": f"QUEST{index:03d}{form}",
                "question": 'Which has a "1"?\nLook at the picture.',
                **dict(zip("ABCD", texts, strict=True)),
                "answer": letter,
                "category": category,
                "image": base64.b64encode(_png(_colour(rng), 8)).decode(),
            }
            rows.append(row)
    lines = ["\t".join(rows[0])]
    lines += ["\t".join(map(_quoted, row.values())) for row in rows]
    name = "3dsrbench_v1_vlmevalkit_circular.tsv"
    _write(folder / name, ("\n".join(lines) + "\n").encode())
    return folder


def write_site(folder: Path, *, videos: int = 2, seed: int = 0) -> Path:
    """``image_test`` and ``video_test``: a question of each medium."""
    tables = {name: [] for name in sitebench.TABLES}
    for index in range(videos):
        rng = np.random.default_rng([seed, index])
        pictures = [f"images/{index}_{i}.png" for i in range(2)]
        for i, name in enumerate(pictures):
            _write(folder / name, _png(_colour(rng), 8 * i))
        video = f"videos/{index}.mp4"
        clip(folder / video, _colour(rng))
        for table, media in zip(tables, (pictures, [video]), strict=True):
            options, letter = _options(rng, "left", count=2 + 2 * (index % 2))
            tables[table].append(
                {
                    "question": "Is <image> left of <image>?"
                    if table == "image_test"
                    else "Where does it go?",
                    "options": [option[3:] for option in options],
                    "answer": letter,
                    "category": "counting & existence",
                    "dataset": "squares",
                    "visual": media,
                }
            )
    for table, rows in tables.items():
        write_parquet(folder / table / "test-00000-of-00001.parquet", rows)
    return folder


def write_mmsi_video(folder: Path, *, videos: int = 2, seed: int = 0) -> Path:
    """``mmsivideo.json``, ``frames/`` and ``ref_images/``: one video or two a row."""
    rows = []
    for index in range(videos):
        rng = np.random.default_rng([seed, index])
        clips = [
            [f"question_{index:04d}/{c}/{i:02d}_frame.jpg" for i in range(30 + 4 * c)]
            for c in range(1 + index % 2)
        ]
        data = encoded(picture(_colour(rng), 8), "JPEG")
        for name in (name for names in clips for name in names):
            _write(folder / "frames" / name, data)
        _write(folder / f"ref_images/{index}.png", _png(_colour(rng), 8))
        options, letter = _options(rng, "left")
        marks = "<video>" * len(clips)
        rows.append(
            {
                "id": f"question_{index:04d}",
                "type": ("Planning", "(Motion Understanding) Camera Motion")[index % 2],
                "video_list": [{"path": "a.mp4", "start": 0, "end": 9, "base_fps": 2}],
                "frames_list": clips,
                "ref_images": [f"{index}.png"],
                "system_prompt": "You watch videos.",
                "task_prompt": "The videos follow each other.\n",
                "user_prompt": f"{marks}Where is <image>?\n" + "\n".join(options),
                "format_prompt": "Answer with a letter.",
                "ground_truth": letter,
            }
        )
    write_json(folder / "mmsivideo.json", rows)
    return folder


def write_vsi_recall(folder: Path, *, videos: int = 2, seed: int = 0) -> Path:
    """``test.jsonl`` and videos of two lengths."""
    return _vsi_super(folder, videos, seed, "recall")


def write_vsi_count(folder: Path, *, videos: int = 2, seed: int = 0) -> Path:
    """``test.jsonl`` and videos of two lengths."""
    return _vsi_super(folder, videos, seed, "count")


def _vsi_super(folder, videos, seed, task):
    rows = []
    for index in range(videos):
        rng = np.random.default_rng([seed, index])
        length = ("10mins", "120mins")[index % 2]
        name = f"{length}/{index}.mp4"
        clip(folder / name, _colour(rng))
        options, letter = _options(rng, "left")
        row = {"question": "Where did it go?", "video_path": name}
        if task == "recall":
            row |= {"options": options, "answer": letter, "type": length}
        else:
            row |= {"answer": int(rng.integers(2, 40)), "split": length}
        rows.append(row)
    folder.mkdir(parents=True, exist_ok=True)
    write_jsonl(folder / "test.jsonl", rows)
    return folder


def _options(rng, right, count=4):
    """Lettered options in random order, one a number, and the letter of ``right``."""
    others = ["right", "2", "behind you, far away"]
    texts = [str(t) for t in rng.permutation([right, *others[: count - 1]])]
    options = [f"{'ABCD'[i]}. {text}" for i, text in enumerate(texts)]
    return options, "ABCD"[texts.index(right)]


def _colour(rng):
    return COLOURS[rng.integers(len(COLOURS))]


def _png(colour, left):
    return encoded(picture(colour, left))


def _write(path, data):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def _quoted(value):
    text = str(value)
    return json.dumps(text).replace('\\"', '""').replace("\\n", "\n")


WRITERS = {
    "revsi-16": write_revsi,
    "mmsi": write_mmsi,
    "mindcube": write_mindcube,
    "mindcube-tiny": write_mindcube,
    "viewspatial": write_viewspatial,
    "embspatial": write_embspatial,
    "blink": write_blink,
    "3dsr": write_threedsr,
    "site": write_site,
    "mmsi-video": write_mmsi_video,
    "vsi-super-recall": write_vsi_recall,
    "vsi-super-count": write_vsi_count,
}
