"""Question files: schema, round trip, hash, and what a broken or partial file does."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import refused

from spacer_lib import rows as rows_module
from spacer_lib.maps.text import map_to_text
from spacer_lib.rows import (
    JOINT_KEYS,
    QUESTION_KEYS,
    REQUIRED_KEYS,
    ROLLOUT_QUESTION_KEYS,
    SPATIAL_KEYS,
    QuestionWriter,
    arrow_schema,
    questions_hash,
    read_questions,
)

FULL = {
    "id": "scene0000_00:object_rel_distance:0",
    "dataset": "scannet",
    "scene_name": "scene0000_00",
    "question_type": "object_rel_distance",
    "problem_type": "multiple choice",
    "question": "Which is closest to the bed — über all?",
    "options": ["A. chair", "B. desk"],
    "ground_truth": "B",
    "categories": ["bed", "chair", "desk"],
    "map": {"chair": [[2, 1], [3, 1]], "bed": [[0, 9]]},
    "video": "videos/scene0000_00.mp4",
}
BARE = {
    "id": "2",
    "problem_type": "numerical",
    "question": "How many?",
    "ground_truth": "3",
}


def write(stem, *rows, columns=SPATIAL_KEYS):
    with QuestionWriter(stem, columns) as writer:
        for row in rows:
            writer.write(row)
    return stem.with_name(f"{stem.name}.jsonl"), stem.with_name(f"{stem.name}.parquet")


def filled(row, columns=SPATIAL_KEYS):
    return {name: row.get(name) for name in columns}


# ---------------------------------------------------------------- schema


def test_the_columns_of_a_question_set_are_those_of_vsi_bench_and_ours():
    assert SPATIAL_KEYS == (*FULL,)
    assert JOINT_KEYS == (*SPATIAL_KEYS, "image", "data_type", "source", "part")
    assert set(JOINT_KEYS) < set(QUESTION_KEYS)
    assert REQUIRED_KEYS == ("id", "problem_type", "question", "ground_truth")
    assert {"map", "options", *REQUIRED_KEYS} < set(ROLLOUT_QUESTION_KEYS)
    assert "completion" not in ROLLOUT_QUESTION_KEYS


def test_options_and_categories_are_lists_of_texts_and_all_else_is_text():
    schema = arrow_schema(JOINT_KEYS)
    assert tuple(schema.names) == JOINT_KEYS
    lists = {field.name for field in schema if pa.types.is_list(field.type)}
    assert lists == {"options", "categories"}
    assert {field.type for field in schema if field.name not in lists} == {pa.string()}


# ---------------------------------------------------------------- round trip


@pytest.mark.parametrize("columns", [SPATIAL_KEYS, JOINT_KEYS])
def test_both_files_read_back_as_written(columns, tmp_path):
    rows = [FULL, BARE, FULL | {"map": None, "image": "a.png"}]
    lines, table = write(tmp_path / "v1.0", *rows, columns=columns)
    assert lines.name == "v1.0.jsonl" and table.name == "v1.0.parquet"
    assert read_questions(lines) == read_questions(str(table))
    assert read_questions(lines) == [filled(row, columns) for row in rows]
    assert [tuple(row) for row in read_questions(table)] == [columns] * 3


def test_a_map_is_text_in_both_files(tmp_path):
    text = map_to_text(FULL["map"])
    lines, table = write(tmp_path / "train", FULL, FULL | {"map": text})
    assert [json.loads(line)["map"] for line in lines.open()] == [text, text]
    assert pq.read_table(table)["map"].to_pylist() == [text, text]
    assert [row["map"] for row in read_questions(lines)] == [FULL["map"]] * 2


TEXTS = st.text(max_size=8).filter(lambda text: text.isprintable())
CELLS = st.lists(st.lists(st.integers(0, 9), min_size=2, max_size=2), max_size=3)


@given(
    text=TEXTS,
    options=st.none() | st.lists(TEXTS, max_size=3),
    cells=st.none() | st.dictionaries(TEXTS, CELLS, max_size=3),
)
def test_any_text_and_map_read_back(tmp_path_factory, text, options, cells):
    row = FULL | {"question": text, "options": options, "map": cells}
    for path in write(tmp_path_factory.mktemp("any") / "train", row):
        assert read_questions(path) == [row]


def test_no_row_at_all_reads_back(tmp_path):
    lines, table = write(tmp_path / "train")
    assert read_questions(lines) == read_questions(table) == []
    assert tuple(pq.read_schema(table).names) == SPATIAL_KEYS


def test_a_row_group_ends_between_two_calls(tmp_path, monkeypatch):
    monkeypatch.setattr(rows_module, "ROWS_PER_GROUP", 4)
    with QuestionWriter(tmp_path / "train") as writer:
        for _ in range(3):
            writer.write(FULL, BARE, FULL)
    parquet = pq.ParquetFile(tmp_path / "train.parquet")
    groups = range(parquet.num_row_groups)
    assert [parquet.metadata.row_group(i).num_rows for i in groups] == [6, 3]


def test_a_byte_order_mark_is_left_out(tmp_path):
    path = tmp_path / "train.jsonl"
    path.write_text("\ufeff" + json.dumps(BARE) + "\n\n", encoding="utf-8")
    assert read_questions(path) == [BARE]


# ---------------------------------------------------------------- broken files


def test_boxes_that_are_none_are_named(tmp_path):
    path = tmp_path / "train.jsonl"
    for boxes, kind in (("{", "rows.boxes-not-json"), ({"bed": 1}, "rows.wrong-type")):
        path.write_text(json.dumps({**BARE, "boxes": boxes}))
        with refused(kind, says="boxes"):
            read_questions(path)


@pytest.mark.parametrize("text", ["{'bed': 1}", "", "[" * 100_000])
def test_a_map_that_is_no_json_is_named(text, tmp_path):
    lines, table = write(tmp_path / "train", FULL, FULL | {"map": text})
    with refused("rows.map-not-json", says=f"{lines} line 2"):
        read_questions(lines)
    with refused("rows.map-not-json", says=f"{table} row 2"):
        read_questions(table)


def test_files_that_are_no_question_files_are_named(tmp_path):
    for name, content, kind in (
        ("a.parquet", b"id,question\n", "artifacts.not-parquet"),
        ("b.jsonl", b'{"id": 1}\n[1]\n', "artifacts.no-object"),
        ("c.jsonl", b'{"id": 1}\n{"id', "artifacts.not-json"),
        ("d.jsonl", "[1]".encode("utf-16"), "artifacts.no-object"),
    ):
        (tmp_path / name).write_bytes(content)
        with refused(kind, says=name):
            read_questions(tmp_path / name)
    with refused("artifacts.missing", says="absent.parquet"):
        read_questions(tmp_path / "absent.parquet")
    with refused("artifacts.missing", says="absent.jsonl"):
        read_questions(tmp_path / "absent.jsonl")


@pytest.mark.parametrize(
    "name, value",
    [
        ("question", 5),
        ("question", ["Which?"]),
        ("ground_truth", 3),
        ("ground_truth", {"A": 1}),
        ("options", "A. cup"),
        ("options", ["A. cup", 2]),
        ("options", {"A": "cup"}),
        ("problem_type", True),
        ("id", 1.5),
        ("scene_name", ["scene0000_00"]),
        ("video", 3),
        ("image", ["a.png", None]),
        ("categories", "bed"),
        ("map", [[1, 2]]),
        ("map", {"bed": 3}),
        ("map", {"bed": [[1, "2"]]}),
        ("map", {"bed": [[1, 2, 3]]}),
        ("dataset", 7),
    ],
)
def test_a_value_of_another_type_is_named(name, value, tmp_path):
    path = tmp_path / "train.jsonl"
    path.write_text(json.dumps(BARE) + "\n" + json.dumps({**BARE, name: value}))
    with refused("rows.wrong-type", says=f"{path} line 2: {name}"):
        read_questions(path)


def test_whole_numbers_become_ids(tmp_path):
    path = tmp_path / "train.jsonl"
    path.write_text(json.dumps({**BARE, "id": 7, "scene_name": 41069021}))
    (row,) = read_questions(path)
    assert (row["id"], row["scene_name"]) == ("7", "41069021")


@pytest.mark.parametrize(
    "encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"]
)
def test_lines_in_any_unicode_encoding(encoding, tmp_path):
    path = tmp_path / "train.jsonl"
    lines = [
        json.dumps({**BARE, "question": word}, ensure_ascii=False) for word in "aé"
    ]
    path.write_bytes("\n".join(lines).encode(encoding))
    assert [row["question"] for row in read_questions(path)] == ["a", "é"]


class Stop(Exception):
    pass


def test_an_interrupted_writer_leaves_what_was_there(tmp_path):
    with pytest.raises(Stop), QuestionWriter(tmp_path / "train") as writer:
        writer.write(FULL)
        raise Stop
    assert list(tmp_path.iterdir()) == []
    files = write(tmp_path / "train", BARE)
    before = [path.read_bytes() for path in files]
    with pytest.raises(Stop), QuestionWriter(tmp_path / "train") as writer:
        writer.write(FULL)
        raise Stop
    assert sorted(tmp_path.iterdir()) == sorted(files)
    assert [path.read_bytes() for path in files] == before


def test_a_row_that_does_not_fit_leaves_nothing(tmp_path):
    with pytest.raises(pa.ArrowException), QuestionWriter(tmp_path / "train") as writer:
        writer.write(FULL | {"question": 3})
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").touch()
    with refused("artifacts.unwritable", says="file"):
        QuestionWriter(tmp_path / "file" / "train").__enter__()


# ---------------------------------------------------------------- hash


def test_the_hash_follows_rows_and_order_but_not_folders():
    moved = dict(reversed((FULL | {"video": "/else/where/scene0000_00.mp4"}).items()))
    assert questions_hash([FULL]) == questions_hash([moved])
    for other in (
        [FULL | {"video": "videos/scene0000_01.mp4"}],
        [FULL | {"ground_truth": "A"}],
        [FULL | {"map": {}}],
        [FULL, FULL],
        [],
    ):
        assert questions_hash(other) != questions_hash([FULL])
    assert questions_hash([FULL, BARE]) != questions_hash([BARE, FULL])


def test_the_hash_takes_addresses_and_lists_of_images_whole():
    rooms = [BARE | {"video": f"room://{kind}/1"} for kind in ("seen", "new")]
    assert questions_hash(rooms[:1]) != questions_hash(rooms[1:])
    images = [BARE | {"image": [f"{folder}/1.png"]} for folder in "ab"]
    assert questions_hash(images[:1]) != questions_hash(images[1:])


def test_the_hash_of_arrays_is_that_of_lists():
    arrays = FULL | {"map": {name: np.array(c) for name, c in FULL["map"].items()}}
    assert questions_hash([arrays]) == questions_hash([FULL])


def test_the_hash_does_not_change_between_versions():
    """Records of runs hold it."""
    assert questions_hash([FULL, BARE]).startswith("d6a7d77fc4fc19ca")
