"""Several benchmarks in one command."""

import json
import shutil

import numpy as np
import pytest
from samples import images
from samples.square import clip
from support import refused

from spacer_lib import cli
from spacer_lib.artifacts import read_json, read_jsonl, write_json
from spacer_lib.benchmarks import named, vsi
from spacer_lib.benchmarks.schema import write_parquet
from spacer_lib.benchmarks.suites import SUITES, suite_folders, suite_named
from spacer_lib.evaluation.replies import Reply

EASI = SUITES["easi-8"]


class AlwaysA:
    """A backend that answers A: the samples have one room, and a floor needs more."""

    name, batched = "always A", False

    def identity(self):
        return {"backend": self.name}

    def ask(self, rows, settings, *, prefixes=None, blind=False):
        return ((i, Reply("A", 1)) for i in range(len(rows)))


@pytest.fixture
def always_a(monkeypatch):
    monkeypatch.setattr(cli.evaluation, "_floor", lambda *_: AlwaysA())


def write_vsi(folder):
    """One question of each type about one video."""
    clip(folder / "scannet" / "scene0000_00.mp4", "red")
    rows = [
        {
            "id": number,
            "dataset": "scannet",
            "scene_name": "scene0000_00",
            "question_type": kind,
            "question": "Where is it, or how many are there?",
            "options": ["A. left", "B. right"] if kind in vsi.CHOICE else None,
            "ground_truth": "A" if kind in vsi.CHOICE else "2",
        }
        for number, kind in enumerate((*vsi.CHOICE, *vsi.NUMBER))
    ]
    write_parquet(folder / "test-00000-of-00001.parquet", rows)


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    folder = tmp_path_factory.mktemp("easi")
    write_vsi(folder / "VSI-Bench")  # the name of the published repository
    for name in set(EASI.members) - {"vsi"}:
        images.WRITERS[name](folder / name, videos=2)
    return folder


def evaluate(*options):
    return cli.main(["evaluate", "--suite", "easi-8", *map(str, options)])


def test_members_are_benchmarks_and_their_means_exist(written):
    assert len(EASI.members) == 8
    for bench, place in suite_folders(EASI, written):
        rows = bench.read(place)
        mean = EASI.members[bench.name]
        if mean != "overall":
            made = [{"score": 1.0, "options": row["options"]} for row in rows]
            assert bench.aggregate(made)[mean] == 1.0
    with refused("benchmarks.unknown-suite", says="easi-8"):
        suite_named("easi-9")


def test_one_command_asks_all_and_continues(written, tmp_path, capsys, always_a):
    out = tmp_path / "out"
    options = ("--data", written, "--out", out, "--floor", "majority")
    assert evaluate(*options, "--extraction", "official") == 0
    table = capsys.readouterr().out.rpartition("\neasi-8")[2]
    found = read_json(out / "suite.json")
    scores = {row["benchmark"]: row["score"] for row in found["table"]}
    assert list(scores) == list(EASI.members)
    assert found["score"] == pytest.approx(np.mean(list(scores.values())))
    for name in EASI.members:
        one = read_json(out / name / "scores.json")
        mean = EASI.members[name]
        own = one["overall"] if mean == "overall" else one["released"][mean]
        assert scores[name] == own and f"{100 * own:.1f}" in table
        assert len(read_jsonl(out / name / "predictions.jsonl")) == one["n"]
    # A run that was stopped: one benchmark is half answered, another not begun.
    path = out / "blink" / "predictions.jsonl"
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    path.write_text("".join(lines[:3]), encoding="utf-8")
    about = out / "blink" / "evaluation.json"  # of a run that has not ended
    write_json(about, {k: v for k, v in read_json(about).items() if k != "answers"})
    shutil.rmtree(out / "3dsr")
    before = (out / "mmsi" / "evaluation.json").read_bytes()
    assert evaluate(*options, "--extraction", "official") == 0
    assert read_json(out / "suite.json") == found
    assert path.read_text(encoding="utf-8") == "".join(lines)
    assert read_json(out / "blink/evaluation.json")["finished"]["answered"] == (
        len(lines) - 3
    )
    assert (out / "mmsi" / "evaluation.json").read_bytes() == before


def test_all_missing_folders_are_named_before_anything_is_asked(
    written, tmp_path, capsys
):
    data = tmp_path / "data"
    shutil.copytree(written / "blink", data / "BLINK")
    with refused("benchmarks.missing-folders", says="7 of 8") as caught:
        suite_folders(EASI, data)
    for name in set(EASI.members) - {"blink"}:
        assert named(name).source in str(caught.value)
    assert evaluate("--data", data, "--out", tmp_path / "o", "--floor", "random") == 2
    assert "MMSI-Bench" in capsys.readouterr().err
    assert not (tmp_path / "o").exists()


def test_a_fault_in_the_last_file_is_found_before_the_first_question(
    written, tmp_path, capsys
):
    data = tmp_path / "data"
    shutil.copytree(written, data)
    (data / "embspatial" / "embspatial_bench.json").write_text("[]")
    assert evaluate("--data", data, "--out", tmp_path / "o", "--floor", "random") == 2
    assert "embspatial_bench.json" in capsys.readouterr().err
    assert not (tmp_path / "o").exists()


@pytest.mark.parametrize(
    "words, said",
    [
        (["--suite", "easi-8", "--benchmark", "vsi"], "both"),
        ([], "neither"),
        (["--suite", "easi8"], "easi-8"),
        (["--suite", "easi-8", "--train-data", "."], "--train-data"),
    ],
)
def test_options_that_do_not_fit_are_refused(tmp_path, capsys, words, said):
    data = ["--data", str(tmp_path), "--floor", "random"]
    assert cli.main(["evaluate", *words, *data]) == 2
    assert said in capsys.readouterr().err


def test_revsi_is_asked_with_its_budget_unless_another_is_chosen(tmp_path, always_a):
    data = images.write_revsi(tmp_path / "data", videos=1)

    def frames(place, *options):
        words = ["evaluate", "--benchmark", "revsi-16", "--data", data]
        words += ["--floor", "majority", "--out", tmp_path / place, *options]
        assert cli.main(list(map(str, words))) == 0
        header = read_json(tmp_path / place / "evaluation.json")
        return json.loads(json.dumps(header["settings"]))["video"]["frames"]

    assert frames("own") == 16
    assert frames("chosen", "--frames", "8") == 8
