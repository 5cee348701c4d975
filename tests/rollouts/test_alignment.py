"""The alignment check, with the project's own model in vLLM's place: no vLLM needed."""

import dataclasses
import math

import numpy as np
import pytest
import torch
from support import refused

from spacer_lib.language.prompts import PromptStyle
from spacer_lib.models.checkpoints import adapt, load_checkpoint
from spacer_lib.models.generation import respond
from spacer_lib.models.inputs import encode_prompts, read_clip, token_types
from spacer_lib.models.patches.rope import use_original_positions
from spacer_lib.models.patches.shared_media import core_of
from spacer_lib.models.requests import equal_times
from spacer_lib.rooms.frames import VideoSettings
from spacer_lib.tiny.curriculum import DEMONSTRATED, SEEDS, draw_rows
from spacer_lib.training import alignment
from spacer_lib.training.alignment import PlainScorer, align, require_aligned
from spacer_lib.training.vllm_rollouts import Made, Sampling

STYLE, VIDEO = PromptStyle("tiny"), VideoSettings(frames=4)
SAMPLING = Sampling(1.0, 1.0, 24, (2,), (5, 6))


@pytest.fixture(scope="module")
def model():
    return adapt(load_checkpoint("checkpoints/tiny_warmstart")[0])


@pytest.fixture(scope="module")
def scorer(model):
    return PlainScorer(model, load_checkpoint("checkpoints/tiny_warmstart")[1])


@pytest.fixture(scope="module")
def row():
    return draw_rows(SEEDS["develop"], 1, DEMONSTRATED)[0]


class StandIn:
    """Answers as vLLM would, with the project's own model.

    ``change`` makes it see another row; ``rounding`` moves log-probabilities.
    """

    def __init__(self, scorer, change=None, rounding=0.0):
        self.scorer = scorer
        self.change = change or (lambda row, video: row)
        self.rounding = rounding

    def ask(self, rows, style, video, seeds, sampling):
        scorer, row = self.scorer, self.change(rows[0], video)
        (prompt,), (media,) = encode_prompts(scorer.processor, [row], style, video)
        settings = alignment.AskSettings(style, video, sampling.max_tokens)
        text = respond(scorer.model, scorer.processor, [row], settings)[0].text
        ids = scorer.processor.tokenizer(text, add_special_tokens=False)["input_ids"]
        (logps,) = scorer.score(prompt[:1], [prompt[1:] + ids], media)
        logps = [value + self.rounding for value in logps.tolist()]
        before = [None, *logps[: len(prompt) - 1]]
        made = Made(prompt, ids, logps[len(prompt) - 1 :], before)
        return [made] * len(rows)


def slow(row, video):
    """The row's video ten times as long: a step of time is above a map's side."""
    clip = read_clip(row["video"], video)
    return {**row, "video": dataclasses.replace(clip, fps=clip.fps / 10)}


def test_an_equal_engine_is_aligned_and_every_control_is_caught(scorer, row):
    video = VideoSettings(frames=12)
    shown = slow(row, video)
    found = align(StandIn(scorer), scorer, shown, STYLE, video, SAMPLING)
    assert found.faults == () and found.greedy
    assert found.media_tokens[0] == found.media_tokens[1] > 0
    assert found.gap.mean <= found.limit
    assert set(found.controls) == {*alignment.CONTROLS, alignment.OTHER_POSITIONS}
    assert min(gap.mean for gap in found.controls.values()) > 100 * found.limit
    require_aligned([found])
    text = "\n".join(found.lines())
    assert "noise of the trainer" in text and "not visible" not in text


@pytest.mark.parametrize("name", alignment.CONTROLS)
def test_an_engine_that_shows_something_else_is_refused(scorer, row, name):
    wrong = StandIn(scorer, alignment.CONTROLS[name])
    found = align(wrong, scorer, row, STYLE, VIDEO, SAMPLING)
    with refused("training.not-aligned", says=name):  # the error names the nearest
        require_aligned([found])


def test_an_engine_with_other_positions_is_refused(model, scorer, row):
    other, processor = load_checkpoint("checkpoints/tiny_warmstart")
    wrong = StandIn(PlainScorer(use_original_positions(adapt(other)), processor))
    video = VideoSettings(frames=12)
    found = align(wrong, scorer, slow(row, video), STYLE, video, SAMPLING)
    with refused("training.not-aligned", says=alignment.OTHER_POSITIONS):
        require_aligned([found])


def test_another_number_of_frames_is_refused_before_scores(scorer, row):
    class Fewer(StandIn):
        def ask(self, rows, style, video, seeds, sampling):
            video = dataclasses.replace(video, frames=2)
            return super().ask(rows, style, video, seeds, sampling)

    found = align(Fewer(scorer), scorer, row, STYLE, VIDEO, SAMPLING)
    with refused("training.not-aligned", says="32 media tokens at vLLM, 64"):
        require_aligned([found])


def test_old_weights_are_refused(scorer, row):
    other, processor = load_checkpoint("checkpoints/tiny_warmstart")
    with torch.no_grad():
        other.model.visual.merger.mlp[0].weight.mul_(1.01)
    wrong = StandIn(PlainScorer(adapt(other), processor))
    found = align(wrong, scorer, row, STYLE, VIDEO, SAMPLING)
    with refused("training.not-aligned", says="log-probabilities differ"):
        require_aligned([found])


def test_rounding_within_the_limit_is_accepted(scorer, row):
    near = StandIn(scorer, rounding=5e-6)
    assert not align(near, scorer, row, STYLE, VIDEO, SAMPLING).faults
    far = StandIn(scorer, rounding=5e-5)
    assert align(far, scorer, row, STYLE, VIDEO, SAMPLING).faults


@pytest.mark.parametrize("frames", [4, 8, 12, 16, 32])
@pytest.mark.parametrize("total", [48, 300, 719, 1801])
def test_time_steps_are_numbered_alike(frames, total):
    """transformers multiplies in fp32, vLLM in fp64; for one of these the seconds as
    they are would number a step one lower there."""
    steps = np.arange(-(-frames // 2))
    for fps in (2.4, 23.976, 24.0, 25.0, 29.97, 30.0):
        seconds = 2 / (frames / total * fps)
        ours = (torch.arange(len(steps)) * (2 * torch.tensor(seconds))).long().numpy()
        sent = float(torch.tensor(equal_times(seconds, len(steps), 2)))
        assert (steps * (sent * 2)).astype(np.int64).tolist() == ours.tolist()
    as_is = (steps * (float(torch.tensor(10 / 3)) * 2)).astype(int)
    assert frames < 8 or as_is[3] == 19  # where 20 is right


def test_text_alone_has_no_controls(scorer, row):
    found = align(
        StandIn(scorer), scorer, {**row, "video": None}, STYLE, VIDEO, SAMPLING
    )
    assert not found.faults and found.kind == "text" and not found.controls


def test_scores_that_are_no_numbers_are_not_aligned(scorer, row):
    """vLLM writes null for a log-probability that it does not know."""

    class Lost(StandIn):
        def ask(self, *arguments):
            made = super().ask(*arguments)
            return [one._replace(logps=[math.nan] * len(one.ids)) for one in made]

    found = align(Lost(scorer), scorer, row, STYLE, VIDEO, SAMPLING)
    with refused("training.not-aligned", says="nan"):
        require_aligned([found])


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (lambda seen: seen, None),
        (lambda seen: {**seen, "positions": seen["positions"] + 1}, "position numbers"),
        (lambda seen: {**seen, "seconds": 2 * seen["seconds"]}, "a time step is"),
        (lambda seen: {**seen, "seconds": math.nan}, "a time step is nan s"),
    ],
)
def test_positions_and_times_of_vllm_are_those_of_the_loss(
    model, scorer, row, change, fault
):
    (prompt,), (media,) = encode_prompts(scorer.processor, [row], STYLE, VIDEO)
    grids = {key: value for key, value in media.items() if "pixel" not in key}
    ids, core = torch.tensor([prompt]), core_of(model)
    types = token_types(ids, core.config)
    own, _ = core.get_rope_index(input_ids=ids, mm_token_type_ids=types, **grids)
    seconds = float(media["second_per_grid_ts"][0])
    seen = change({"positions": own[:, 0], "seconds": seconds})
    faults = alignment._position_faults([seen], model, prompt, media)
    assert [one[: len(fault or "")] for one in faults] == ([fault] if fault else [])


def test_other_words_in_the_prompt_are_refused(scorer, row):
    class Other(StandIn):
        def ask(self, *arguments):
            return [
                one._replace(prompt_ids=[*one.prompt_ids[:-1], one.ids[0]])
                for one in super().ask(*arguments)
            ]

    found = align(Other(scorer), scorer, row, STYLE, VIDEO, SAMPLING)
    with refused("training.not-aligned", says="tokens differ from place"):
        require_aligned([found])
