"""Profiles: how published systems ask, read and average, one YAML file each.

A file in ``configs/profiles`` holds facts, each with its source in a comment. A prompt
that is more than the benchmark's own short lines is held by reference: ``prompt_at``
says where its words are, the mode names the nearest of ours, and ``spacer evaluate
--template FILE`` takes the words themselves.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import pandas as pd

from spacer_lib.artifacts import PROJECT_ROOT, PathLike
from spacer_lib.benchmarks import named, rules_of
from spacer_lib.errors import SpacerError
from spacer_lib.evaluation.aggregates import AGGREGATES
from spacer_lib.evaluation.config import EvaluationConfig
from spacer_lib.language.asking import AskSettings
from spacer_lib.language.prompts import MODES, PromptStyle, Template
from spacer_lib.rooms.frames import Sampler
from spacer_lib.rows import Question
from spacer_lib.settings import load_settings, setting_names

PROFILES = PROJECT_ROOT / "configs" / "profiles"


@dataclass(frozen=True)
class Part:
    """What a profile sets for one benchmark; ``None``: as the profile's ``default``.

    Attributes
    ----------
    mode : str
        Answer mode of ours, the nearest to their prompt.
    prompt_at : str
        Where the words of their prompt are.
    texts : dict
        The prompt as published, by problem type, where it is short; see ``Template``.
    notes : dict
        Question type → line that is added to the question.
    extraction : str
        Reading rule: a key of ``benchmarks.rules_of``.
    aggregate : str
        One of ``aggregates.AGGREGATES``.
    max_new_tokens : int
    """

    mode: str | None = None
    prompt_at: str | None = None
    texts: dict[str, str] | None = None
    notes: dict[str, str] | None = None
    extraction: str | None = None
    aggregate: str | None = None
    max_new_tokens: int | None = None


@dataclass(frozen=True)
class Profile:
    """How one published system evaluates.

    Attributes
    ----------
    title, source : str
    default : Part
        Of benchmarks without an entry.
    benchmarks : dict
        Part by name of the benchmark.
    frames, size, max_pixels, min_pixels, sampler, frames_as, temperature, top_p
        See ``EvaluationConfig``.
    precision : str or None
        Number format of the weights. It is not set, since the checkpoint decides it.
    unread : tuple of str
        Settings that no public source states; they are ours.

    Raises
    ------
    SpacerError
        For an unknown benchmark, mode, rule, aggregate or setting.
    """

    title: str
    source: str
    default: Part
    benchmarks: dict[str, Part] = field(default_factory=dict)
    frames: int = 32
    size: int | None = None
    max_pixels: int | None = 448 * 28 * 28
    min_pixels: int | None = None
    sampler: Sampler | None = None
    frames_as: str | None = None
    temperature: float = 0.0
    top_p: float = 1.0
    precision: str | None = None
    unread: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in self.benchmarks:
            named(name)
        rules = tuple(rules_of(named("vsi")))
        for part in (self.default, *self.benchmarks.values()):
            for what, value, known in (
                ("mode", part.mode, MODES),
                ("extraction", part.extraction, rules),
                ("aggregate", part.aggregate, AGGREGATES),
            ):
                if value is not None and value not in known:
                    raise _unknown(what, value, known)
        lacking = [
            k for k in ("mode", "extraction") if getattr(self.default, k) is None
        ]
        if lacking:
            raise _unknown(f"default.{lacking[0]}", None, ("a value",))
        for name in ("vsi", *self.benchmarks):
            self.config(name)  # its ranges
        settings = tuple(SETTINGS)
        for name in self.unread:
            if name not in settings:
                raise _unknown("unread", name, settings)

    def part(self, benchmark: str) -> Part:
        """The settings of a benchmark, by its name in ``benchmarks``."""
        own = self.benchmarks.get(benchmark, Part())
        given = {k: v for k, v in vars(own).items() if v is not None}
        return dataclasses.replace(self.default, **given)

    def aggregate(self, benchmark: str) -> str:
        """The aggregate of a benchmark; the published one if the profile has none."""
        return self.part(benchmark).aggregate or named(benchmark).overall

    def config(self, benchmark: str) -> EvaluationConfig:
        """The settings of ``spacer evaluate`` for a benchmark."""
        part = self.part(benchmark)
        return EvaluationConfig(
            mode=part.mode,
            extraction=part.extraction or "strict",
            frames=self.frames,
            size=self.size,
            max_pixels=self.max_pixels,
            min_pixels=self.min_pixels,
            sampler=self.sampler,
            frames_as=self.frames_as,
            temperature=self.temperature,
            top_p=self.top_p,
            max_new_tokens=part.max_new_tokens,
        )

    def asked(
        self, benchmark: str, rows: Sequence[Question], settings: AskSettings
    ) -> tuple[list[Question], AskSettings]:
        """Rows with the profile's notes, and settings with its prompt."""
        part = self.part(benchmark)
        notes = part.notes or {}
        noted = [
            cast(Question, {**row, "question": f"{row['question']}\n{note}"})
            if (note := notes.get(row["question_type"]))
            else row
            for row in rows
        ]
        if part.texts:
            style = settings.style
            template = Template(next(iter(part.texts.values())), texts=part.texts)
            style = PromptStyle(style.mode, template=template)
            settings = dataclasses.replace(settings, mode=style)
        return noted, settings


def _unknown(what: str, value: object, known: Sequence[str]) -> SpacerError:
    return SpacerError(
        f"profile: {what}",
        kind="evaluation.unknown-in-profile",
        got=value,
        expected=", ".join(known),
    )


def load_profile(name: PathLike) -> Profile:
    """A profile by name, or from a YAML file.

    Raises
    ------
    SpacerError
        For an unknown file or key, or a value of another type or out of range.
    """
    return load_settings(Profile, name, PROFILES, what="profile")


def profile_names() -> list[str]:
    """Names of the profiles in ``configs/profiles``."""
    return setting_names(PROFILES)


# ---------------------------------------------------------------- the table


def _prompt(profile: Profile, part: Part) -> str:
    if part.texts:
        return "as published"
    words = part.prompt_at or ""
    return f"ours ({part.mode}), not theirs" + (f": {words}" if words else "")


def _sampler(profile: Profile, part: Part) -> str:
    sampler = profile.sampler or Sampler()
    text = sampler.rule
    if sampler.fps:
        text += (
            f", {sampler.fps:g} fps, {sampler.min_frames} to {profile.frames} frames"
        )
    return text


def _pixels(value: int | None) -> str:
    if value is None:
        return "the processor's"
    tokens, rest = divmod(value, 28 * 28)
    return f"{value}" if rest else f"{tokens} x 28 x 28"


SETTINGS: Mapping[str, Any] = {
    "prompt": _prompt,
    "map asked": lambda profile, part: "yes" if part.mode == "think_map" else "no",
    "notes": lambda profile, part: ", ".join(part.notes or ()) or "none",
    "frames": lambda profile, part: str(profile.frames),
    "sampler": _sampler,
    "frames_as": lambda profile, part: profile.frames_as or "video",
    "max_pixels": lambda profile, part: _pixels(profile.max_pixels),
    "min_pixels": lambda profile, part: _pixels(profile.min_pixels),
    "max_new_tokens": lambda profile, part: str(part.max_new_tokens or "by mode"),
    "temperature": lambda profile, part: f"{profile.temperature:g}",
    "top_p": lambda profile, part: f"{profile.top_p:g}",
    "precision": lambda profile, part: profile.precision or "the checkpoint's",
    "extraction": lambda profile, part: part.extraction,
}


def profile_table(
    benchmark: str = "vsi", names: Sequence[str] | None = None
) -> pd.DataFrame:
    """What profiles set for a benchmark: settings by profiles, as texts.

    A setting that no public source states is ``not stated``.

    Parameters
    ----------
    benchmark : str
    names : sequence of str, optional
        Profiles; all without it.

    Returns
    -------
    pandas.DataFrame
        Index: the setting. Columns: the profiles' titles.
    """
    key = named(benchmark).name
    columns = {}
    for name in names or profile_names():
        profile = load_profile(name)
        part = profile.part(key)
        shown = {
            setting: "not stated" if setting in profile.unread else text(profile, part)
            for setting, text in SETTINGS.items()
        }
        columns[profile.title] = shown | {"aggregate": profile.aggregate(key)}
    return pd.DataFrame(columns)


def differing(table: pd.DataFrame) -> pd.DataFrame:
    """The rows of ``profile_table`` in which the profiles differ."""
    return table[table.nunique(axis=1) > 1]
