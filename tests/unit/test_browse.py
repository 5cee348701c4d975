"""``spacer browse``: one page of a run's answers, whatever the model wrote."""

import base64
import html.parser
import io
import json
from collections import Counter

import pytest
from PIL import Image
from samples.rollouts import ROW, WRITTEN, WRONG, rollout
from support import refused

from spacer_lib import cli
from spacer_lib.artifacts import write_json, write_jsonl
from spacer_lib.language.tags import write_completion
from spacer_lib.pictures import browse
from spacer_lib.pictures.browse import KINDS, write_page

HOSTILE = (
    "<script>alert('1')</script><img src=x onerror=alert(1)>\"'</pre></article>"
    '<map>{"<script>x</script>":[[1,1]]}</map>\x1b[31m\u202e<!-- ]]>'
)


class Elements(html.parser.HTMLParser):
    """Every element's attributes, all text, and the elements that never close."""

    def __init__(self, text):
        super().__init__()
        self.found, self.words, self.open = [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))
        if tag not in ("meta", "img", "path", "rect", "circle", "!doctype"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)

    def named(self, tag):
        return [attributes for name, attributes in self.found if name == tag]


def page_of(folder, rollouts, **options):
    write_jsonl(folder / "rollouts.jsonl", rollouts)
    page = write_page(folder, folder / "page.html", **options)
    text = page.path.read_text(encoding="utf-8")
    elements = Elements(text)
    assert elements.open == []
    return page, text, elements


def test_every_answer_has_what_the_filters_look_at(tmp_path):
    page, text, elements = page_of(tmp_path, map(rollout, WRITTEN.values()))
    articles = elements.named("article")
    assert [a["data-kind"] for a in articles] == list(WRITTEN)
    assert {a["data-type"] for a in articles} == {ROW["question_type"]}
    assert {a["data-step"] for a in articles} == {"1"}
    offered = [a["value"] for a in elements.named("option") if a["value"]]
    assert set(offered) == {*WRITTEN, ROW["question_type"], "1"}
    assert page.kinds == dict.fromkeys(sorted(WRITTEN, key=list(KINDS).index), 1)
    words = " ".join(elements.words)
    assert ROW["question"] in words and WRITTEN["reasoning"] in words
    assert "advantage +0.50" in words and "gate shut" in words
    assert all(KINDS[kind] in words for kind in WRITTEN)
    # Without JavaScript only the form is hidden.
    hidden = [tag for tag, attributes in elements.found if "hidden" in attributes]
    assert hidden == ["form"]


def test_frames_are_small_pictures_of_the_video(tmp_path):
    _, _, elements = page_of(tmp_path, [rollout(WRITTEN["right"])])
    images = elements.named("img")
    assert len(images) == browse.FRAMES
    for image in images:
        assert image["alt"].startswith("frame ")
        head, _, content = image["src"].partition(",")
        assert head == "data:image/jpeg;base64" and len(content) < 12_000
        picture = Image.open(io.BytesIO(base64.b64decode(content)))
        assert picture.width == browse.FRAME_WIDTH


def test_a_missing_video_is_said_and_the_rest_is_there(tmp_path):
    row = {**ROW, "video": "/no/<b>where</b>.mp4"}
    _, _, elements = page_of(tmp_path, [rollout(WRITTEN["right"], row)])
    assert elements.named("img") == [] and elements.named("article")
    assert "/no/<b>where</b>.mp4" in " ".join(elements.words)


@pytest.mark.parametrize(
    "place", ["completion", "question", "id", "question_type", "options", "map"]
)
def test_texts_of_models_and_files_stay_text(tmp_path, place):
    made = rollout(WRITTEN["right"])
    made[place] = {
        "options": [f"A. {HOSTILE}", "B. left"],
        "map": {HOSTILE: [[1, 1]], "bed": [[2, 2]]},
    }.get(place, HOSTILE)
    _, text, elements = page_of(tmp_path, [made])
    assert text.count("<script") == 1 and "\u202e" not in text and "\x1b" not in text
    assert "".join(elements.words).count("<script>") >= 1
    assert len(elements.named("article")) == 1
    assert not [name for _, a in elements.found for name in a if name.startswith("on")]


def test_the_page_loads_nothing_and_runs_only_its_own_script(tmp_path):
    _, text, elements = page_of(tmp_path, map(rollout, WRITTEN.values()))
    (policy,) = [a["content"] for a in elements.named("meta") if "content" in a][:1]
    assert policy.startswith("default-src 'none'; img-src data:")
    sources = [a[k] for _, a in elements.found for k in ("src", "href") if k in a]
    assert all(source.startswith("data:") for source in sources)
    assert "http" not in text.replace("http-equiv", "")


def test_a_long_run_gives_a_page_of_bounded_size(tmp_path):
    """Eight completions of 700 words, 100 steps: the published group, for a while."""
    words = " ".join(f"step{n} <east>" for n in range(350))
    text = write_completion(WRONG, words, ROW["map"])
    rollouts = [rollout(text, ROW, step) for step in range(1, 101) for _ in range(8)]
    page, text, elements = page_of(tmp_path, rollouts)
    assert (page.shown, page.total) == (200, 800)
    assert 200 * 4_000 < len(text) < 4_000_000
    steps = [int(a["data-step"]) for a in elements.named("article")]
    assert {steps[0], steps[-1]} == {1, 100} and len(set(steps)) == 25
    assert set(Counter(steps).values()) == {8}  # whole groups
    assert page_of(tmp_path, rollouts, limit=5)[0].shown == 5


def test_a_page_ends_at_its_largest_size(tmp_path, monkeypatch):
    monkeypatch.setattr(browse, "MOST_BYTES", 100_000)
    made = [rollout("x" * 1_000_000, step=step) for step in range(1, 9)]
    page, text, _ = page_of(tmp_path, made)
    assert 0 < page.shown < 8 and len(text) < 110_000
    assert "980000 more characters" in text


def test_a_map_of_a_thousand_objects_is_not_drawn(tmp_path):
    cells = {"chair": [[1, 1]] * 1000}
    _, text, _ = page_of(tmp_path, [rollout(write_completion("A", "", cells))])
    assert "objects is not drawn" in text


def prediction(text, row=ROW, **more):
    return {
        "id": row["id"],
        "scene_name": row["scene_name"],
        "question_type": row["question_type"],
        "problem_type": row["problem_type"],
        "question": row["question"],
        "options": row["options"],
        "prediction": text,
        "answer": row["ground_truth"],
        "extracted": None,
        "score": 0.0,
        "failure": "no_answer_tag",
        **more,
    }


def test_an_evaluation_is_read_with_and_without_its_questions(tmp_path):
    told = prediction(WRITTEN["reasoning"], extracted=WRONG, failure=None)
    write_jsonl(tmp_path / "predictions.jsonl", [told])
    write_jsonl(tmp_path / "questions.jsonl", [ROW])
    alone = write_page(tmp_path, tmp_path / "page.html")
    assert "data:image" not in alone.path.read_text() and alone.shown == 1
    whole = write_page(tmp_path, tmp_path / "b.html", data=tmp_path / "questions.jsonl")
    assert "data:image" in whole.path.read_text()
    assert whole.kinds == {"reasoning": 1}
    write_jsonl(tmp_path / "questions.jsonl", [{**ROW, "id": "another"}])
    with refused("pictures.no-such-question", says=ROW["id"]):
        write_page(tmp_path, tmp_path / "b.html", data=tmp_path / "questions.jsonl")


def test_folders_without_answers_are_refused(tmp_path):
    with refused("pictures.no-answers", says="rollouts.jsonl"):
        write_page(tmp_path, tmp_path / "page.html")
    (tmp_path / "rollouts.jsonl").write_text("")
    with refused("pictures.no-answers", says="first step"):
        write_page(tmp_path, tmp_path / "page.html")
    made = rollout(WRITTEN["right"])
    del made["completion"]
    write_jsonl(tmp_path / "rollouts.jsonl", [made])
    with refused("pictures.no-such-key", says="row 1: completion"):
        write_page(tmp_path, tmp_path / "page.html")
    told = prediction("A")
    del told["prediction"]
    write_jsonl(tmp_path / "predictions.jsonl", [told])
    with refused("pictures.no-such-key", says="prediction"):
        write_page(tmp_path, tmp_path / "page.html")
    assert not (tmp_path / "page.html").exists()


def test_the_command_writes_the_page_into_the_run(tmp_path, capsys):
    write_jsonl(tmp_path / "rollouts.jsonl", map(rollout, WRITTEN.values()))
    result = tmp_path / "result.json"
    assert cli.main(["browse", str(tmp_path), "--json", str(result)]) == 0
    assert "7 of 7 answers" in capsys.readouterr().out
    assert (tmp_path / "browse.html").is_file()
    assert json.loads(result.read_text())["kinds"]["reasoning"] == 1
    assert cli.main(["browse", str(tmp_path / "absent")]) == 2
    write_json(tmp_path / "empty" / "x.json", {})
    assert cli.main(["browse", str(tmp_path / "empty")]) == 2
    assert "rollouts.parquet" in capsys.readouterr().err
