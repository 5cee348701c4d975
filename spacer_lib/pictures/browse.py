"""One HTML page of a run's answers, to read and filter in a browser.

For each answer: frames of the video, the question, the completion as it was written,
the drawn map over the true one, the split of the reward, and what failed. The page is
one file. It loads nothing and forbids the browser to; without JavaScript only the
filters are absent. All texts of models and files go through ``markup.html_text``.
"""

import base64
import functools
import hashlib
import io
import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
from PIL import Image

from spacer_lib.artifacts import (
    PathLike,
    parse_json,
    read_journal,
    read_parquet,
    write_text,
)
from spacer_lib.errors import SpacerError
from spacer_lib.evaluation.consistency import FAILURES, failures
from spacer_lib.evaluation.report import read_run
from spacer_lib.language.tags import read_completion
from spacer_lib.markup import html_text
from spacer_lib.pictures.map_svg import map_svg
from spacer_lib.pictures.style import short_name
from spacer_lib.rewards.config import RewardConfig
from spacer_lib.rewards.score import score
from spacer_lib.rooms.video import read_frames
from spacer_lib.rows import (
    MEDIA_KEYS,
    CognitiveMap,
    Prediction,
    Question,
    Rollout,
    check_question,
    read_questions,
)
from spacer_lib.training.processes.plan import PLAN, read_plan

MOST_BYTES = 20_000_000  # of a page
MOST_CHARS = 20_000  # of one text
FRAMES, FRAME_WIDTH = 4, 160  # of each video; pixels

# What became of an answer: the labels of ``evaluation.consistency``, and two that look
# at the text and the question first.
KINDS = {
    **FAILURES,
    "truncated": "wrong, and a block of the completion has no end",
    "wrong": "wrong, and the question has no map",
}
_BLOCKS = ("think", "observe", "map", "answer")


@dataclass(frozen=True)
class Answer:
    """One completion of a question, with what it earned.

    Attributes
    ----------
    row : Question
    text : str
        The completion.
    score : float
        The task's part, 0 … 1.
    kind : str
        Of ``KINDS``.
    drawn : dict or None
        The map that was read from the completion.
    step : int or None
        Of training.
    rewards : dict
        By component, weight and gate applied; empty for a prediction.
    reasons : dict
        Why a component is what it is.
    advantage : float or None
    """

    row: Question
    text: str
    score: float
    kind: str
    drawn: CognitiveMap | None = None
    step: int | None = None
    rewards: Mapping[str, float | None] = field(default_factory=dict)
    reasons: Mapping[str, str] = field(default_factory=dict)
    advantage: float | None = None


# ---------------------------------------------------------------- reading


class Source(NamedTuple):
    """Rows of a run, how one becomes an ``Answer``, and M of the maps."""

    rows: list[dict[str, Any]]
    judge: Callable[[dict[str, Any]], Answer]
    grid_size: int


def read_source(folder: PathLike, data: PathLike | None = None) -> Source:
    """The rollouts of a training run, or the predictions of an evaluation.

    Parameters
    ----------
    folder : path
        With ``rollouts.jsonl`` or ``rollouts.parquet``, or with ``predictions.jsonl``.
    data : path, optional
        Questions of the predictions, which hold neither map nor video.

    Raises
    ------
    SpacerError
        If there is none of these files, or one cannot be read.
    """
    folder = Path(folder)
    if (folder / "predictions.jsonl").is_file():
        return _predictions(folder, data)
    for name in ("rollouts.jsonl", "rollouts.parquet"):
        if (folder / name).is_file():
            return _rollouts(folder / name)
    raise SpacerError(
        folder,
        kind="pictures.no-answers",
        got="no rollouts and no predictions",
        expected="rollouts.jsonl, rollouts.parquet or predictions.jsonl",
        remedy="name the folder of a training run or of an evaluation",
    )


def _rollouts(path: Path) -> Source:
    plan = path.parent / PLAN
    reward = read_plan(plan).config.reward if plan.exists() else RewardConfig()
    if path.suffix == ".jsonl":
        rows = read_journal(path)
    else:
        rows = read_parquet(path)
        for row in rows:
            row["map"] = parse_json(row["true_map"]) if row.get("true_map") else None
            paid = [key for key in row if key.startswith("reward/")]
            row["rewards"] = {key.removeprefix("reward/"): row[key] for key in paid}
    _require(path, rows, Rollout.__required_keys__)
    return Source(rows, functools.partial(_rollout, reward=reward), reward.grid_size)


def _require(
    path: PathLike, rows: Sequence[Mapping[str, Any]], keys: Iterable[str]
) -> None:
    for number, row in enumerate(rows, start=1):
        lacking = sorted(key for key in keys if row.get(key) is None)
        if lacking:
            raise SpacerError(
                f"{path} row {number}: {lacking[0]} is missing",
                kind="pictures.no-such-key",
                got=", ".join(row)[:120],
                expected=", ".join(sorted(keys)),
            )
        check_question(f"{path} row {number}", row)


def _rollout(rollout: dict[str, Any], reward: RewardConfig) -> Answer:
    row = cast(Question, {"scene_name": None, **rollout})
    row["question_type"] = row.get("question_type") or row["problem_type"]
    found = score(rollout["completion"], row, reward)
    reasons = dict(reason.split(": ", 1) for reason in found.reasons)
    reasons.pop("length", None)  # the text alone does not tell the number of tokens
    told = {
        "id": row["id"],
        "prediction": rollout["completion"],
        "score": found.task,
        "extracted": found.answer if found.answer_failure is None else None,
    }
    return Answer(
        row,
        rollout["completion"],
        found.task,
        _kind(cast(Prediction, told), row, reward.grid_size),
        found.drawn_map,
        rollout["step"],
        rollout["rewards"],
        reasons,
        rollout["advantage"],
    )


def _predictions(folder: Path, data: PathLike | None) -> Source:
    records = cast(list[dict[str, Any]], read_run(folder).records)
    wanted = ("question", "problem_type", "prediction", "answer")
    _require(folder / "predictions.jsonl", records, wanted)
    rows = {} if data is None else _asked(Path(data))
    lacking = [r["id"] for r in records if data and r["id"] not in rows]
    if lacking:
        raise SpacerError(
            f"{data}: questions of {folder}",
            kind="pictures.no-such-question",
            got=f"{len(lacking)} are missing, first {lacking[0]}",
            expected="the questions that were asked",
        )
    judge = functools.partial(_prediction, rows=rows)
    return Source(records, judge, RewardConfig().grid_size)


def _asked(path: Path) -> dict[str, Question]:
    """Questions by id; their media are named relative to the file."""
    rows = {row["id"]: row for row in read_questions(path)}
    for row in rows.values():
        for key in MEDIA_KEYS:
            name = cast(dict[str, Any], row).get(key)
            if isinstance(name, str) and "://" not in name:
                cast(dict[str, Any], row)[key] = str(path.parent / name)
    return rows


def _prediction(record: dict[str, Any], rows: Mapping[str, Question]) -> Answer:
    own = cast(Question, {**record, "ground_truth": record["answer"]})
    row, text = rows.get(record["id"], own), record["prediction"]
    kind = _kind(cast(Prediction, record), row, RewardConfig().grid_size)
    return Answer(row, text, record["score"], kind, read_completion(text).map)


def _kind(told: Prediction, row: Question, grid_size: int) -> str:
    (label,) = failures([told], [row], grid_size=grid_size)["label"]
    if label == "right":
        return "right"
    text = told["prediction"]
    if any(f"<{tag}>" in text and f"</{tag}>" not in text for tag in _BLOCKS):
        return "truncated"
    return "wrong" if label == "no_map" and not row.get("map") else str(label)


# ---------------------------------------------------------------- the page


@dataclass(frozen=True)
class Page:
    """A page that was written.

    Attributes
    ----------
    path : Path
    shown, total : int
        Answers on the page, and of the run.
    kinds : dict
        How many of those shown have each of ``KINDS``.
    """

    path: Path
    shown: int
    total: int
    kinds: dict[str, int]


def write_page(
    folder: PathLike,
    path: PathLike,
    *,
    data: PathLike | None = None,
    limit: int = 200,
) -> Page:
    """Write the page of a run.

    Parameters
    ----------
    folder : path
        See ``read_source``.
    path : path
        Of the page.
    data : path, optional
        See ``read_source``.
    limit : int
        Most answers. With more, whole questions are left out, evenly over the run; the
        first and the last stay. A page ends at ``MOST_BYTES``.

    Raises
    ------
    SpacerError
        As ``read_source``, or if there are no answers yet.
    """
    source = read_source(folder, data)
    if not source.rows:
        raise SpacerError(
            folder,
            kind="pictures.no-answers",
            got="no answers",
            expected="at least one",
            remedy="wait for the first step",
        )
    parts: list[str] = []
    shown: list[Answer] = []
    size = 0
    for group in chosen(source.rows, limit):
        answers = [source.judge(row) for row in group]
        part = _question(answers, source.grid_size)
        size += len(part.encode())
        if size > MOST_BYTES:
            break
        parts.append(part)
        shown += answers
    name = Path(folder).resolve().name
    write_text(path, _document(name, shown, len(source.rows), parts))
    kinds = Counter(answer.kind for answer in shown)
    counted = {kind: kinds[kind] for kind in KINDS if kinds[kind]}
    return Page(Path(path), len(shown), len(source.rows), counted)


def chosen(rows: Sequence[dict[str, Any]], limit: int) -> list[list[dict[str, Any]]]:
    """Groups (answers to one question in one step), spread evenly over the run."""
    groups = [
        list(group)
        for _, group in groupby(rows, key=lambda row: (row.get("step"), row["id"]))
    ]
    most = max(map(len, groups))
    count = min(len(groups), max(1, limit // most))
    places = np.unique(np.linspace(0, len(groups) - 1, count).round().astype(int))
    return [groups[place][:limit] for place in places]


def _question(group: Sequence[Answer], grid_size: int) -> str:
    """A question with its frames and all its answers."""
    first = group[0]
    row = first.row
    step = "" if first.step is None else f"step {first.step} · "
    options = "".join(
        f"<li>{_text(option)}</li>" for option in row.get("options") or ()
    )
    answers = "".join(_answer(answer, grid_size) for answer in group)
    return f"""<section>
<h2>{step}{_text(short_name(row["question_type"]))}</h2>
<p class="question">{_text(row["question"])}</p>
<ul class="options">{options}</ul>
<p>true answer: <b>{_text(row["ground_truth"])}</b>
<small>{_text(row["id"])}</small></p>
<div class="frames">{_frames(row)}</div>
{answers}</section>
"""


def _answer(answer: Answer, grid_size: int) -> str:
    kind = f"<b>{KINDS[answer.kind]}</b>"
    data = {
        "type": answer.row["question_type"],
        "kind": answer.kind,
        "step": "" if answer.step is None else answer.step,
    }
    attributes = "".join(f' data-{k}="{html_text(v)}"' for k, v in data.items())
    true = {k: cells for k, cells in (answer.row.get("map") or {}).items() if cells}
    picture = map_svg(true, answer.drawn or {}, grid_size)
    return f"""<article{attributes} class="{answer.kind}">
<p>{kind}</p>
<div class="parts"><pre>{_text(answer.text)}</pre>
{_rewards(answer)}{picture}</div></article>
"""


def _text(value: object) -> str:
    """``html_text`` of at most ``MOST_CHARS`` characters."""
    text = str(value)
    rest = len(text) - MOST_CHARS
    cut = f" … {rest} more characters" if rest > 0 else ""
    return html_text(text[:MOST_CHARS] + cut)


def _rewards(answer: Answer) -> str:
    if not answer.rewards:
        return f'<p class="rewards">score {answer.score:.2f}</p>'
    lines = [
        f"<tr><td>{_text(name)}</td><td>{_number(value)}</td>"
        f"<td>{_text(answer.reasons.get(name, ''))}</td></tr>"
        for name, value in answer.rewards.items()
    ]
    total = sum(value or 0.0 for value in answer.rewards.values())
    advantage = f"{answer.advantage:+.2f}" if answer.advantage is not None else ""
    return f"""<table class="rewards">
<thead><tr><th>reward</th><th></th><th>why</th></tr></thead>
<tbody>{"".join(lines)}</tbody>
<tfoot><tr><td>total</td><td>{total:.2f}</td>
<td>advantage {advantage}</td></tr></tfoot></table>
"""


def _number(value: float | None) -> str:
    return "–" if value is None or not math.isfinite(value) else f"{value:.2f}"


def _frames(row: Question) -> str:
    """Frames of the row's video, or its images, as embedded JPEGs."""
    try:
        pictures = list(_pictures(row))
    except SpacerError as error:
        return f"<p>{_text(error)}</p>"
    return "".join(
        f'<figure><img src="data:image/jpeg;base64,{_jpeg(picture)}" alt="{name}">'
        f"<figcaption>{name}</figcaption></figure>"
        for name, picture in pictures
    )


def _pictures(row: Question) -> Iterator[tuple[str, Image.Image]]:
    video, image = row.get("video"), row.get("image")
    if video:
        drawn = "://" in video
        size = FRAME_WIDTH if drawn else None
        frames, indices, *_ = read_frames(video, FRAMES, size)
        for number, frame in zip(indices, frames, strict=True):
            yield f"frame {number}", Image.fromarray(frame)
    elif image:
        from spacer_lib.models.inputs import read_image

        names = [image] if isinstance(image, str) else image
        for number, name in enumerate(names[:FRAMES], start=1):
            yield f"image {number}", read_image(name)


def _jpeg(picture: Image.Image) -> str:
    height = max(1, round(FRAME_WIDTH * picture.height / picture.width))
    small = picture.resize((FRAME_WIDTH, min(height, 4 * FRAME_WIDTH)))
    content = io.BytesIO()
    small.save(content, "JPEG", quality=70)
    return base64.b64encode(content.getvalue()).decode()


_STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; color: #222; max-width: 75rem;
  margin: 0 auto; padding: 1rem; }
section { border-top: 2px solid #222; margin-top: 1.5rem; }
h2 { font-size: 1.1rem; } .question { font-size: 1.1rem; }
.options { list-style: none; padding: 0; display: flex; gap: 1.5rem; flex-wrap: wrap; }
.frames { display: flex; gap: .5rem; flex-wrap: wrap; }
figure { margin: 0; } figcaption { font-size: .8rem; color: #555; }
article { border-left: 6px solid #9C3D00; padding-left: .8rem; margin: 1rem 0; }
article.right { border-color: #009E73; }
.parts { display: flex; gap: 1rem; flex-wrap: wrap; align-items: flex-start; }
pre { white-space: pre-wrap; overflow-wrap: anywhere; flex: 2 1 22rem; margin: 0;
  max-height: 22rem; overflow: auto; background: #f6f6f6; padding: .5rem; }
table { border-collapse: collapse; font-size: .85rem; }
td, th { padding: .1rem .5rem; text-align: left; border-bottom: 1px solid #ddd; }
form { position: sticky; top: 0; background: #fff; padding: .5rem 0; }
label { margin-right: 1rem; } [hidden] { display: none !important; }
"""
_SCRIPT = """
const form = document.querySelector("form");
const answers = [...document.querySelectorAll("article")];
const names = ["type", "kind", "step"];
function choose() {
  const shown = answers.filter(a => {
    const keep = names.every(n => !form[n].value || a.dataset[n] === form[n].value);
    a.hidden = !keep;
    return keep;
  });
  for (const section of document.querySelectorAll("section"))
    section.hidden = !section.querySelector("article:not([hidden])");
  form.querySelector("output").textContent = `${shown.length} shown`;
}
form.addEventListener("change", choose);
form.hidden = false;
choose();
"""


def _document(
    name: str, answers: Sequence[Answer], total: int, parts: Sequence[str]
) -> str:
    types = sorted({answer.row["question_type"] for answer in answers})
    counts = Counter((answer.row["question_type"], answer.kind) for answer in answers)
    kinds = [kind for kind in KINDS if any(key[1] == kind for key in counts)]
    steps = list(dict.fromkeys(a.step for a in answers if a.step is not None))
    body = "".join(
        f"<tr><td>{_text(short_name(one))}</td>"
        + "".join(f"<td>{counts[one, kind]}</td>" for kind in kinds)
        + "</tr>"
        for one in types
    )
    head = "".join(f"<th>{KINDS[kind]}</th>" for kind in kinds)
    form = (
        _select("type", "question type", {one: short_name(one) for one in types})
        + _select("kind", "what happened", {kind: KINDS[kind] for kind in kinds})
        + _select("step", "step", {step: step for step in steps})
    )
    allowed = base64.b64encode(hashlib.sha256(_SCRIPT.encode()).digest()).decode()
    policy = (
        "default-src 'none'; img-src data:; style-src 'unsafe-inline'; "
        f"script-src 'sha256-{allowed}'; base-uri 'none'; form-action 'none'"
    )
    return f"""<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width"><title>{_text(name)}</title>
<style>{_STYLE}</style></head><body>
<h1>{_text(name)}</h1>
<p>{len(answers)} of {total} answers.</p>
<table><thead><tr><th>question type</th>{head}</tr></thead><tbody>{body}</tbody></table>
<form hidden>{form}<output></output></form>
{"".join(parts)}<script>{_SCRIPT}</script></body></html>
"""


def _select(name: str, label: str, options: Mapping[Any, object]) -> str:
    items = "".join(
        f'<option value="{html_text(value)}">{_text(words)}</option>'
        for value, words in options.items()
    )
    return (
        f'<label>{label} <select name="{name}"><option value="">all</option>{items}'
        "</select></label>"
    )
