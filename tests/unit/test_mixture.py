"""Video-R1's rows read, sampled and joined; its format written and read back."""

import json
import math
import random
from collections import Counter

import datasets
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from support import refused

from spacer_lib import cli
from spacer_lib.questions import mixture
from spacer_lib.questions.build import build_dataset
from spacer_lib.questions.general_sample import synthetic_general
from spacer_lib.questions.mixture import (
    GENERAL_KEYS,
    PROBLEM_TYPES,
    REASONS,
    convert,
    joint_set,
    read_video_r1,
    report,
    sample_uniform,
)
from spacer_lib.rewards.config import RewardConfig
from spacer_lib.rewards.score import score
from spacer_lib.rooms.scans import read_scenes, synthetic_meta
from spacer_lib.rows import JOINT_KEYS, SPATIAL_KEYS, QuestionWriter, read_questions

RAW = {
    "problem_id": 2,
    "problem": "Which is on the table?",
    "data_type": "image",
    "problem_type": "multiple choice",
    "options": ["A. a cup", "B. a hat", "C. a map"],
    "solution": "<answer>B</answer>",
    "path": "./General/cup.png",
    "data_source": "A-OKVQA",
}


def raw(**changes):
    return {**RAW, **changes}


def only(row, media_root=None):
    """The one row that a raw row becomes."""
    (made,), refused = convert([row], media_root)
    assert not refused
    return made


def answer_of(kind, answer):
    return only(
        raw(problem_type=kind, options=[], solution=f"<answer>{answer}</answer>")
    )["ground_truth"]


def test_a_row_has_the_schema():
    row = only(RAW)
    assert tuple(row) == GENERAL_KEYS
    assert row == {
        "id": "video-r1:2",
        "dataset": "video-r1",
        "scene_name": None,
        "question_type": "general_multiple_choice",
        "problem_type": "multiple choice",
        "question": "Which is on the table?",
        "options": ["A. a cup", "B. a hat", "C. a map"],
        "ground_truth": "B",
        "categories": [],
        "map": None,
        "video": None,
        "image": "General/cup.png",
        "data_type": "image",
        "source": "A-OKVQA",
    }


def test_a_video_stands_under_video():
    row = only(raw(data_type="video", path="./STAR/clip.mp4", data_source=None))
    assert tuple(row) == GENERAL_KEYS
    assert (row["video"], row["image"]) == ("STAR/clip.mp4", None)
    assert row["source"] is None


PLANTED = [
    # reason, what is wrong
    ("not an object", None),
    ("not an object", ["problem"]),
    ("room of VSI-Bench", raw(path="ScanNet/scene0011_00/0.jpg")),
    ("room of VSI-Bench", raw(path="./scannetpp/7b6477cb95.mp4")),
    ("no id", raw(problem_id=None)),
    ("no id", raw(problem_id=math.nan)),
    ("no id", raw(problem_id=math.inf)),
    ("no id", raw(problem_id=2.5)),
    ("no id", raw(problem_id=True)),
    ("no id", raw(problem_id=" ")),
    ("no question", raw(problem=None)),
    ("no question", raw(problem=math.nan)),
    ("no question", raw(problem="\n")),
    ("unknown problem type", raw(problem_type="grounding")),
    ("unknown problem type", raw(problem_type=None)),
    ("unknown data type", raw(data_type="audio")),
    ("unknown data type", raw(data_type=["image"])),
    ("no solution", raw(solution=None)),
    ("no solution", raw(solution="")),
    ("no solution", raw(solution=3)),
    ("no answer tag", raw(solution="B")),
    ("no answer tag", raw(solution="<answer>B")),
    ("no answer tag", raw(solution="</answer>B<answer>")),
    ("two answer tags", raw(solution="<answer>B</answer><answer>C</answer>")),
    ("two answer tags", raw(solution="<answer><answer>B</answer>")),
    ("empty answer", raw(solution="<answer> </answer>")),
    ("answer too long", raw(solution=f"<answer>{'word ' * 500}</answer>")),
    ("fewer than two options", raw(options=[])),
    ("fewer than two options", raw(options=None)),
    ("fewer than two options", raw(options=["A. a cup"])),
    ("fewer than two options", raw(options=["A. a cup", None])),
    ("fewer than two options", raw(options="A. a cup B. a hat")),
    ("fewer than two options", raw(options={"A": "a cup", "B": "a hat"})),
    ("answer not an option", raw(solution="<answer>D</answer>")),
    ("answer not an option", raw(solution="<answer>A. a hat</answer>")),
    ("answer not an option", raw(solution="<answer>Actually B</answer>")),
    ("answer not a number", raw(problem_type="numerical")),
    (
        "answer not a number",
        raw(problem_type="regression", solution="<answer>1/2</answer>"),
    ),
    ("no path", raw(path=None)),
    ("no path", raw(path="./")),
    ("path leaves the media root", raw(path="./../secret.png")),
    ("media missing", raw(path="./General/hat.png")),
    ("media missing", raw(path="./General")),
    ("media missing", raw(path="./General/" + "x" * 5000)),
    ("media missing", raw(path="./General/\0.png")),
    ("media missing", raw(path="./General/\ud800.png")),
]


@pytest.fixture
def media(tmp_path):
    """A media root with one picture in it."""
    (tmp_path / "General").mkdir()
    (tmp_path / "General" / "cup.png").touch()
    return tmp_path


@pytest.mark.parametrize("reason, row", PLANTED)
def test_each_odd_row_has_its_reason(reason, row, media):
    assert convert([row], media) == ([], {reason: 1})


def test_every_reason_is_planted():
    assert {reason for reason, _ in PLANTED} | {"id seen before"} == set(REASONS)


def test_good_rows_survive_among_odd_ones(media):
    odd = [row for _, row in PLANTED]
    rows, refused = convert([RAW, *odd, raw(problem_id=3), raw(problem=None)], media)
    assert [row["id"] for row in rows] == ["video-r1:2", "video-r1:3"]
    assert refused == Counter(reason for reason, _ in PLANTED) + Counter(
        ["no question"]
    )


@pytest.mark.parametrize(
    "given_id, expected",
    [(2, "2"), (2.0, "2"), (0, "0"), (1e6, "1000000"), ("17_b", "17_b"), (" 5 ", "5")],
)
def test_ids(given_id, expected):
    assert only(raw(problem_id=given_id))["id"] == f"video-r1:{expected}"


def test_an_id_counts_once_however_it_is_written():
    rows, refused = convert([RAW, raw(problem_id=2.0), raw(problem_id="2")])
    assert len(rows) == 1 and refused == {"id seen before": 2}


def test_an_id_of_a_refused_row_is_free():
    rows, refused = convert([raw(problem=None), RAW])
    assert len(rows) == 1 and refused == {"no question": 1}


@pytest.mark.parametrize(
    "path",
    [
        "./General/cup.png",
        "/General/cup.png",
        "General/cup.png",
        ".//General/./cup.png",
    ],
)
def test_spellings_of_a_path(path, media):
    assert only(raw(path=path))["image"] == "General/cup.png"
    assert only(raw(path=path), media)["image"] == str(media / "General" / "cup.png")


def test_an_absolute_path_stays_below_the_media_root(media):
    outside = media / "General" / "cup.png"
    assert convert([raw(path=str(outside))], media)[1] == {"media missing": 1}


def test_the_media_root_must_be_there(tmp_path):
    with refused("questions.no-media-root", says="nowhere"):
        convert([], tmp_path / "nowhere")


CHOICES = [
    # options, answer, options as written, letter
    (["A. cup", "B. hat"], "B", ["A. cup", "B. hat"], "B"),
    (["A. cup", "B. hat"], "b", ["A. cup", "B. hat"], "B"),
    (["A. cup", "B. hat"], "B.", ["A. cup", "B. hat"], "B"),
    (["A. cup", "B. hat"], "(B)", ["A. cup", "B. hat"], "B"),
    (["A. cup", "B. hat"], "B. Hat.", ["A. cup", "B. hat"], "B"),
    (["A. cup", "B. hat"], " hat ", ["A. cup", "B. hat"], "B"),
    (["(A) cup", "(B) hat"], "B", ["A. cup", "B. hat"], "B"),
    (["A) cup", "B: hat"], "A", ["A. cup", "B. hat"], "A"),
    (["cup", "hat"], "B", ["A. cup", "B. hat"], "B"),
    (["cup", "hat"], "hat", ["A. cup", "B. hat"], "B"),
    (["B. hat", "A. cup"], "B", ["B. hat", "A. cup"], "B"),
    (["A. cup", "A. hat"], "B", ["A. A. cup", "B. A. hat"], "B"),
    (["A", "B", "C"], "C", ["A.", "B.", "C."], "C"),
    (["A. 3", "B. 3"], "B", ["A. 3", "B. 3"], "B"),
    (["(A) cat", "(B) dog"], "(B) dog", ["A. cat", "B. dog"], "B"),
    (["(A) cat", "(B) dog"], "dog", ["A. cat", "B. dog"], "B"),
]


@pytest.mark.parametrize("options, answer, written, letter", CHOICES)
def test_choices(options, answer, written, letter):
    row = only(raw(options=options, solution=f"<answer>{answer}</answer>"))
    assert (row["options"], row["ground_truth"]) == (written, letter)


@pytest.mark.parametrize(
    "options, answer",
    [
        (["A. 3", "B. 3"], "3"),
        (["A. x", "A. y", "B. z"], "B"),  # the second, or the third by its own letter
        (["(A) cat", "(B) dog"], "(B) cat"),
    ],
)
def test_an_answer_that_fits_two_options_or_none_is_refused(options, answer):
    row = raw(options=options, solution=f"<answer>{answer}</answer>")
    assert convert([row])[1] == {"answer not an option": 1}


NUMBERS = "0 7 -3 −3 +4 3.25 .5 -.5 1,200 12,345,678 4e2 1.5E-3 1e9".split()
NOT_NUMBERS = (
    "seven",
    "1/2",
    "3 cm",
    "45°",
    "50%",
    "1,20",
    "5-6",
    "2e9",
    "1e999",
    "inf",
    "nan",
    ".",
    "e5",
    "1.2.3",
    "٣",
    "0x10",
    "__import__('os')",
    "2*3",
)


@pytest.mark.parametrize("kind", ["numerical", "regression"])
@pytest.mark.parametrize("number", NUMBERS)
def test_numbers(kind, number):
    assert answer_of(kind, number) == number


@pytest.mark.parametrize("text", NOT_NUMBERS)
def test_what_is_no_number(text):
    row = raw(problem_type="numerical", solution=f"<answer>{text}</answer>")
    assert convert([row])[1] == {"answer not a number": 1}


@pytest.mark.parametrize("kind", ["OCR", "free-form"])
def test_texts_keep_their_words(kind):
    assert answer_of(kind, "\n Stop: all  ways ") == "Stop: all  ways"
    row = only(raw(problem_type=kind, solution="<answer>go</answer>"))
    assert row["options"] is None and row["problem_type"] == kind.lower()
    assert row["question_type"] == "general_" + kind.lower().replace("-", "_")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=5,
)
TAGGED = st.one_of(
    st.text("AB. 0123456789,eE+-−", max_size=8), st.text(max_size=8)
).map(lambda text: f"<answer>{text}</answer>")
ODD_ROW = st.fixed_dictionaries(
    {},
    optional={
        "problem_id": st.just(1) | JSON,
        "problem": st.just("What?") | JSON,
        "data_type": st.sampled_from(["image", "video"]) | JSON,
        "problem_type": st.sampled_from(PROBLEM_TYPES) | JSON,
        "options": st.lists(st.text(max_size=6)) | JSON,
        "solution": TAGGED | JSON,
        "path": st.text() | JSON,
        "data_source": JSON,
    },
)


@given(st.lists(ODD_ROW | JSON, max_size=5))
def test_nothing_raises(rows):
    made, refused = convert(rows)
    assert len(made) + sum(refused.values()) == len(rows)
    assert set(refused) <= set(REASONS)


@settings(max_examples=300, deadline=None)  # ROUGE and WER load on first use
@given(
    kind=st.sampled_from(PROBLEM_TYPES),
    solution=TAGGED,
    options=st.lists(st.text("AB. xy", min_size=1, max_size=4), max_size=4),
)
def test_what_is_kept_can_be_scored(kind, solution, options):
    """The rewards raise on truth that they cannot read: none is let through."""
    row = raw(problem_type=kind, solution=solution, options=options)
    for made in convert([row])[0]:
        text = f"<think>so</think><answer>{made['ground_truth']}</answer>"
        reward = score(text, made, RewardConfig())
        if made["problem_type"] != "free-form":  # ROUGE drops punctuation
            assert reward.answer_failure or reward.task == pytest.approx(1)
        if kind in ("multiple choice", "numerical", "regression"):
            assert reward.answer_failure is None


def test_arrays_and_lines_read_the_same(tmp_path):
    rows = [raw(problem_id=2.0), raw(problem_id=math.nan), raw(problem_id=4)]
    array, lines = tmp_path / "rows.json", tmp_path / "rows.jsonl"
    array.write_text("\n  " + json.dumps(rows, indent=1))
    lines.write_text("\ufeff" + "\n\n".join(json.dumps(row) for row in rows))
    expected = convert(rows)
    assert read_video_r1(array) == read_video_r1(lines) == expected
    assert [row["id"] for row in expected[0]] == ["video-r1:2", "video-r1:4"]


def test_lines_are_streamed(tmp_path, monkeypatch):
    path = tmp_path / "rows.jsonl"
    path.write_text((json.dumps(RAW) + "\n") * 3)
    monkeypatch.setattr(mixture, "read_json", lambda path: pytest.fail("read whole"))
    assert read_video_r1(path)[1] == {"id seen before": 2}


@pytest.mark.parametrize("mark", ["", "\ufeff"])
@pytest.mark.parametrize("start", ["", " \n"])
def test_a_byte_order_mark_is_left_out(mark, start, tmp_path):
    path = tmp_path / "rows.json"
    for text in (json.dumps([RAW]), json.dumps(RAW)):
        path.write_text(mark + start + text, encoding="utf-8")
        assert read_video_r1(path) == convert([RAW])


@pytest.mark.parametrize(
    "content, kind, where",
    [
        (b'[{"problem": ', "artifacts.not-json", "rows.json is"),
        (b'{"problem_id": 1}\n{"problem', "artifacts.not-json", "line 2"),
        (b"\xfa\xff\xfe\n", "artifacts.not-json", "rows.json"),
        ("[".encode("utf-16"), "artifacts.not-json", "rows.json"),
        (b"[" * 100_000, "artifacts.not-json", "rows.json"),
        (b"1" * 5000, "artifacts.not-json", "line 1"),
        (b"", "questions.general-empty", "rows.json"),
        (b"\xef\xbb\xbf", "questions.general-empty", "rows.json"),
        (b"\n \n", "questions.general-empty", "rows.json"),
    ],
)
def test_unusable_files_say_where(content, kind, where, tmp_path):
    path = tmp_path / "rows.json"
    path.write_bytes(content)
    with refused(kind, says=where):
        read_video_r1(path)


def test_a_missing_file_says_so(tmp_path):
    with refused("artifacts.missing", says="none.json"):
        read_video_r1(tmp_path / "none.json")
    with refused("artifacts.unreadable", says=str(tmp_path)):
        read_video_r1(tmp_path)


def general_rows(counts):
    """Rows by ``{problem type: how many}``; every answer fits every type."""
    rows, refused = convert(
        raw(
            problem_id=f"{kind}-{i}",
            problem_type=kind,
            options=["1", "2"],
            solution="<answer>1</answer>",
            path=f"{kind}/{i}.png",
        )
        for kind, count in counts.items()
        for i in range(count)
    )
    assert not refused
    return rows


def drawn_counts(counts, total, seed=0):
    drawn = sample_uniform(general_rows(counts), total, seed)
    return Counter(row["problem_type"] for row in drawn)


def test_every_type_gives_the_same():
    counts = dict.fromkeys(PROBLEM_TYPES, 30)
    assert drawn_counts(counts, 50) == dict.fromkeys(PROBLEM_TYPES, 10)


SHARES = [
    # available, total, expected
    ({"ocr": 2, "numerical": 30, "regression": 30}, 30, (2, 14, 14)),
    ({"ocr": 2, "numerical": 5, "regression": 30}, 30, (2, 5, 23)),
    ({"ocr": 3, "numerical": 3, "regression": 3}, 9, (3, 3, 3)),
    ({"ocr": 3, "numerical": 3, "regression": 3}, 8, None),
    ({"ocr": 1, "numerical": 9, "regression": 9}, 4, None),
    ({"ocr": 1}, 0, (0,)),
    ({}, 0, ()),
]


@pytest.mark.parametrize("available, total, expected", SHARES)
def test_scarce_types_give_all_and_others_share(available, total, expected):
    drawn = drawn_counts(available, total)
    assert sum(drawn.values()) == total
    full = [drawn[kind] for kind in available if drawn[kind] == available[kind]]
    rest = [drawn[kind] for kind in available if drawn[kind] < available[kind]]
    if rest:
        assert max(rest) - min(rest) <= 1 and max(full, default=0) <= min(rest) + 1
    if expected is not None:
        assert drawn == Counter(dict(zip(available, expected, strict=True)))


def test_the_published_size_in_small():
    """Video-R1-260k's types at a hundredth (counts published with the data)."""
    available = {"multiple choice": 1688, "free-form": 387, "numerical": 344}
    available |= {"ocr": 159, "regression": 53}
    drawn = drawn_counts(available, 600)
    assert drawn["regression"] == 53 and sum(drawn.values()) == 600
    assert {drawn[kind] for kind in set(available) - {"regression"}} == {136, 137}


def test_the_draw_depends_on_the_seed_and_not_on_the_order():
    rows = general_rows(dict.fromkeys(PROBLEM_TYPES, 20))
    drawn = sample_uniform(rows, 25, seed=4)
    shuffled = random.Random(1).sample(rows, len(rows))
    assert sample_uniform(shuffled, 25, seed=4) == drawn
    assert sample_uniform(rows, 25, seed=5) != drawn
    assert len({row["id"] for row in drawn}) == 25


def test_rows_within_a_type_are_drawn_evenly():
    rows = general_rows({"ocr": 10})
    drawn = Counter(
        row["id"] for seed in range(300) for row in sample_uniform(rows, 3, seed)
    )
    # 300 draws of 3 in 10: each row 90 ± 8 times
    assert len(drawn) == 10 and max(abs(n - 90) for n in drawn.values()) < 32


def test_the_same_question_is_drawn_once():
    rows, _ = convert([raw(problem_id=i, path=f"{i // 2}.png") for i in range(8)])
    kept = sample_uniform(rows, 4, seed=0)
    assert [row["id"] for row in kept] == [f"video-r1:{i}" for i in (0, 2, 4, 6)]
    assert sample_uniform(rows[::-1], 4, seed=0) == kept
    with refused("questions.too-few-general", says="5 of 4"):
        sample_uniform(rows, 5, seed=0)
    with refused("questions.too-few-general", says="-1 of 4"):
        sample_uniform(rows, -1, seed=0)
    with refused("questions.repeated-id"):
        sample_uniform(rows + rows[:1], 4, seed=0)


def spatial_rows(count):
    keys = SPATIAL_KEYS
    return [
        {
            **dict.fromkeys(keys),
            "id": f"scene0000_{i:02d}:object_counting:0",
            "dataset": "scannet",
            "question_type": "object_counting",
            "problem_type": "numerical",
            "map": {"chair": [[1, 2]]},
            "video": f"videos/{i}.mp4",
        }
        for i in range(count)
    ]


def test_the_joint_set():
    spatial, general = spatial_rows(9), general_rows({"ocr": 3, "numerical": 3})
    rows, counts = joint_set(spatial, general, seed=0)
    assert {tuple(row) for row in rows} == {JOINT_KEYS}
    assert sorted(row["id"] for row in rows) == sorted(
        row["id"] for row in spatial + general
    )
    assert counts["rows"] == 15
    assert counts["part"] == {"general": 6, "spatial": 9}
    assert counts["question_type"] == {
        "general_numerical": 3,
        "general_ocr": 3,
        "object_counting": 9,
    }
    assert counts["data_type"] == {"image": 6, "video": 9}
    assert counts["source"] == {"A-OKVQA": 6, "scannet": 9}
    first = next(row for row in rows if row["part"] == "spatial")
    assert first["map"] == {"chair": [[1, 2]]} and first["image"] is None
    parts = [row["part"] for row in rows]
    assert parts != sorted(parts) and parts != sorted(parts, reverse=True)
    assert joint_set(spatial[::-1], general[::-1], seed=0)[0] == rows
    assert joint_set(spatial, general, seed=1)[0] != rows


def test_boxes_stay_in_the_joint_set(tmp_path):
    folder, boxes = tmp_path / "rooms", {"chair": [[0.5, -1.0, 0.5, 0.5]]}
    rows = [{**row, "boxes": boxes} for row in spatial_rows(2)]
    with QuestionWriter(folder / "train", (*SPATIAL_KEYS, "boxes")) as writer:
        writer.write(*rows)
    listing = synthetic_general(4, tmp_path / "general", seed=0)
    mixture.write_joint(folder, listing, tmp_path / "out", total=2)
    mixed = read_questions(tmp_path / "out" / "train.parquet")
    assert {row["part"]: row["boxes"] for row in mixed} == {
        "spatial": boxes,
        "general": None,
    }


def test_a_room_of_the_benchmark_is_not_mixed(tmp_path):
    """Also in a file that `spacer qa` did not write."""
    folder = tmp_path / "rooms"
    shown = {**spatial_rows(2)[1], "scene_name": "scene0011_00"}
    with QuestionWriter(folder / "train") as writer:
        writer.write(*spatial_rows(1), shown)
    listing = synthetic_general(4, tmp_path / "general", seed=0)
    with refused("rooms.benchmark-room", says="scene0011"):
        mixture.write_joint(folder, listing, tmp_path / "out", total=2)
    assert not (tmp_path / "out").exists()


def test_the_joint_set_refuses_an_id_twice():
    spatial, general = spatial_rows(2), general_rows({"ocr": 2})
    for pair in [(spatial * 2, general), (spatial, general + [general[0]])]:
        with refused("questions.repeated-id"):
            joint_set(*pair, seed=0)
    between = [{**general[0], "id": spatial[0]["id"]}]
    with refused("questions.repeated-id", says=spatial[0]["id"]):
        joint_set(spatial, between, seed=0)


def test_the_report_is_json():
    rows, refused = convert([RAW, None, raw(problem=None), None])
    counts = report(rows, refused)
    assert json.loads(json.dumps(counts)) == counts
    assert counts["refused"] == {"no question": 1, "not an object": 2}
    assert counts["rows"] == 1 and counts["part"] == {}


def test_the_synthetic_set_is_read_back(tmp_path):
    listing = synthetic_general(25, tmp_path / "general", seed=0)
    assert {tuple(row) for row in json.loads(listing.read_text())} == {
        (
            "problem_id",
            "problem",
            "data_type",
            "problem_type",
            "options",
            "solution",
            "path",
            "data_source",
        )
    }
    rows, refused = read_video_r1(listing, listing.parent)
    assert len(rows) == 25 and not refused
    assert Counter(r["problem_type"] for r in rows) == dict.fromkeys(PROBLEM_TYPES, 5)
    for row in rows:
        with Image.open(row["image"]) as picture:
            assert picture.size == (256, 192)
            assert len(picture.getcolors(1 << 16)) > 1
        text = f"<think>so</think><answer>{row['ground_truth']}</answer>"
        assert score(text, row, RewardConfig()).task == pytest.approx(1)
    assert not [p for p in listing.parent.rglob(".*") if p.is_file()]


def test_the_synthetic_answers_are_in_the_pictures(tmp_path):
    """The bar ends at its value; the colour asked for is there; counts vary."""
    listing = synthetic_general(60, tmp_path, seed=3)
    rows, _ = read_video_r1(listing, tmp_path)
    by_type = {kind: [] for kind in PROBLEM_TYPES}
    for row in rows:
        by_type[row["problem_type"]].append(row)
    for row in by_type["regression"]:
        line = np.asarray(Image.open(row["image"]))[80]
        blue = np.flatnonzero((line == [0, 0, 255]).all(axis=1))
        assert (blue[-1] - blue[0]) / 2 == int(row["ground_truth"])
    named = {"red": (255, 0, 0), "blue": (0, 0, 255), "green": (0, 128, 0)}
    for row in by_type["multiple choice"]:
        letters = {line[0]: line[3:] for line in row["options"]}
        picture = Image.open(row["image"])
        drawn = {colour for _, colour in picture.getcolors()}
        wanted = named.get(letters[row["ground_truth"]])
        assert wanted is None or wanted in drawn
    assert len({row["ground_truth"] for row in by_type["multiple choice"]}) > 2
    assert len({row["ground_truth"] for row in by_type["numerical"]}) > 2
    assert min(int(row["ground_truth"]) for row in by_type["numerical"]) >= 1


def test_the_synthetic_set_depends_on_the_seed_alone(tmp_path):
    def files(name, count, seed):
        synthetic_general(count, tmp_path / name, seed)
        return {
            str(path.relative_to(tmp_path / name)): path.read_bytes()
            for path in (tmp_path / name).rglob("*.*")
            if path.name != "manifest.json"
        }

    first = files("a", 10, 0)
    assert files("b", 10, 0) == first
    assert files("c", 10, 1) != first
    longer = files("d", 15, 0)
    assert all(longer[k] == v for k, v in first.items() if k.endswith(".png"))


def mixed(spatial, general, out, *words):
    """The exit status of ``spacer mix``."""
    arguments = ["mix", "--spatial", spatial, "--general", general, "--out", out]
    return cli.main([str(word) for word in (*arguments, *words)])


@pytest.fixture(scope="module")
def spatial(tmp_path_factory):
    """A question set of four rooms: its folder and report."""
    folder = tmp_path_factory.mktemp("spatial")
    scenes = read_scenes(synthetic_meta(folder / "meta.json", 4))
    return folder / "qa", build_dataset(scenes, folder / "qa", "sr91k")


def test_mix_says_how_many_were_wanted_and_used(spatial, tmp_path, capsys):
    listing = synthetic_general(5, tmp_path / "general", seed=0)
    out = tmp_path / "joint"
    assert mixed(spatial[0], listing, out, "--media", listing.parent) == 0
    said = capsys.readouterr().out
    assert "5 of 60,000 general questions" in said
    table = [line.split() for line in said.splitlines()]
    assert ["part", "wanted", "used"] in table
    assert ["general", "60,000", "5"] in table
    assert ["source", "usable", "used"] in table and ["synthetic", "5", "5"] in table
    assert mixed(spatial[0], listing, tmp_path / "none", "--total", 0) == 0
    assert "0 of 0 general questions" in capsys.readouterr().out


@pytest.mark.parametrize(
    "content, says",
    [
        (json.dumps([raw(problem=None)]).encode(), "0 of 60,000 wanted"),
        (b"[]", "0 of 60,000 wanted"),
        (b"", "is empty"),
    ],
)
def test_mix_fails_without_a_usable_question(spatial, content, says, tmp_path, capsys):
    listing = tmp_path / "general.json"
    listing.write_bytes(content)
    assert mixed(spatial[0], listing, tmp_path / "joint") == 2
    assert says in capsys.readouterr().err
    assert not (tmp_path / "joint").exists()


def test_a_joint_folder_opens_and_finds_its_media(spatial, tmp_path):
    home, made = spatial
    listing = synthetic_general(25, tmp_path / "general", seed=0)
    words = ["--media", listing.parent, "--total", 10]
    assert mixed(home, listing, tmp_path / "joint", *words) == 0
    rows = read_questions(tmp_path / "joint" / "train.parquet")
    count = sum(made["counts"]["train"].values())
    assert Counter(row["part"] for row in rows) == {"spatial": count, "general": 10}
    assert rows == read_questions(tmp_path / "joint" / "train.jsonl")
    for row in rows:
        if row["part"] == "general":
            assert (tmp_path / "joint" / row["image"]).is_file()
        else:
            assert isinstance(row["map"], dict)
    opened = datasets.load_dataset(
        str(tmp_path / "joint"), cache_dir=str(tmp_path / "cache")
    )
    assert len(opened["train"]) == count + 10


def test_rows_that_spacer_released_keep_their_video_as_scene():
    raw = {
        "problem_id": 5,
        "problem": "How many chairs are there?",
        "data_type": "video",
        "problem_type": "numerical",
        "options": [],
        "solution": "<answer>4</answer>",
        "path": "./SR_dataset/scene0000_00.mp4",
        "data_source": "SR_dataset",
    }
    (row,), refused_rows = mixture.convert([raw])
    assert not refused_rows
    assert (row["id"], row["scene_name"]) == ("spacer:5", "scene0000_00")
    assert (row["dataset"], row["ground_truth"]) == ("scannet", "4")
