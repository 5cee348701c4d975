"""The one loop that asks a backend, and the journal from which it goes on.

``run``, ``evaluate``, ``select_samples`` and ``read_again`` all ask through here. They
differ in what they make of a reply.
"""

import contextlib
from collections import Counter
from collections.abc import Generator, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

from spacer_lib.artifacts import (
    PathLike,
    append_jsonl,
    config_hash,
    make_folder,
    resume_journal,
    to_jsonable,
)
from spacer_lib.errors import SpacerError
from spacer_lib.evaluation.backends import Backend
from spacer_lib.evaluation.chain import (
    KEY,
    chained,
    check_answers,
    last_of,
    write_chained,
)
from spacer_lib.evaluation.conditions import (
    WITH_MAP,
    condition_rows,
    condition_video,
)
from spacer_lib.evaluation.replies import Reply
from spacer_lib.jobs import progress
from spacer_lib.language.asking import AskSettings
from spacer_lib.language.prompts import TINY_MODES, control_words
from spacer_lib.language.tags import begin_with_map
from spacer_lib.rooms.synthetic.views import VIEWS
from spacer_lib.rooms.video import ROOM_SCHEME
from spacer_lib.rows import Question, questions_hash
from spacer_lib.tiny.curriculum import beginning


class Journal:
    """JSON lines with one finished record for each row, appended as they are made.

    Each record carries the row's ``id`` and, as ``config``, a hash of everything that
    it depends on. Records that an earlier call left count if their hash is the same.
    As ``chain`` it covers the records before, see ``evaluation.chain``.

    Parameters
    ----------
    path : path
    configs : dict
        ``{id: hash}`` of the rows to be asked.
    fresh : bool
        What to do with records of another hash: start anew if true, else refuse.
    accept_edited : bool
        Go on from a file that was edited.

    Attributes
    ----------
    edited : str
        What was edited, and accepted.

    Raises
    ------
    SpacerError
        If the file holds a record of one of these rows with another hash, unless
        ``fresh``; if it was edited, unless ``accept_edited``.
    """

    def __init__(
        self,
        path: PathLike,
        configs: Mapping[str, str],
        *,
        fresh: bool = False,
        accept_edited: bool = False,
    ) -> None:
        self.path, self.configs = Path(path), dict(configs)
        make_folder(self.path.parent)
        self.done: dict[str, dict[str, Any]] = {}
        found = resume_journal(self.path)
        self.edited = check_answers(self.path, found, accept_edited=accept_edited)
        for made in found:
            name = made["id"]
            if name in self.configs and made.get("config") == self.configs[name]:
                self.done[name] = made
            elif name in self.configs and not fresh:
                raise SpacerError(
                    f"{self.path} holds another answer to {name}",
                    kind="evaluation.other-run",
                    got=f"config {made.get('config')}",
                    expected=f"{self.configs[name]}: the same model, settings and "
                    "question",
                    remedy="choose another file, or delete this one",
                )
        if fresh and len(self.done) < len(found):
            found = self._write(self.done.values())
        elif self.edited or any(KEY not in made for made in found):
            found = write_chained(self.path, found)
        self._last = last_of(found)

    def _write(self, records: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """Write the file anew with these records."""
        made = write_chained(self.path, records)
        self.done = {record["id"]: record for record in made}
        self._last = last_of(made)
        return made

    def add(self, made: Mapping[str, Any]) -> None:
        """Append one record; its ``config`` and ``chain`` are filled in."""
        name = made["id"]
        record = chained({**made, "config": self.configs[name]}, self._last)
        append_jsonl(self.path, [record], sync=True)
        self.done[name], self._last = record, record[KEY]

    def forget(self, reason: str) -> int:
        """Remove the records that failed for this reason; how many they were."""
        lost = [
            name
            for name, made in self.done.items()
            if str(made.get("failure")).partition(":")[0] == reason
        ]
        for name in lost:
            del self.done[name]
        if lost:
            self._write(self.done.values())
        return len(lost)

    def finish(self) -> list[dict[str, Any]]:
        """The records of all rows, in the order of ``configs``; so is the file then."""
        return self._write([self.done[name] for name in self.configs])


def conditioned(settings: AskSettings, condition: str) -> AskSettings:
    """The settings under a condition: ``shuffled`` changes the order of frames.

    Raises
    ------
    SpacerError
        If the condition forces a map and the mode has none.
    """
    if condition in WITH_MAP and settings.style.mode not in (
        TINY_MODES[0],
        "think_map",
    ):
        raise SpacerError(
            f"condition {condition}",
            kind="evaluation.mode-without-map",
            got=f"mode {settings.style.mode}",
            expected="tiny or think_map",
        )
    return replace(
        settings, video=condition_video(settings.video, condition, settings.seed)
    )


def depends_on(
    rows: Sequence[Question],
    backend: Backend,
    settings: AskSettings,
    condition: str = "own",
) -> dict[str, Any]:
    """What answers depend on, as JSON: backend, settings, condition and rows."""
    asked: dict[str, Any] = {
        "condition": condition,
        "settings": to_jsonable(conditioned(settings, condition)),
        "backend": backend.identity(),
        "rows": {"count": len(rows), "sha256": questions_hash(rows)},
    }
    if not backend.batched:
        asked["settings"]["batch_size"] = None
    for name in ("min_pixels", "sampler"):  # runs from before they existed lack them
        if asked["settings"]["video"][name] is None:
            del asked["settings"]["video"][name]
    if any(map(_is_drawn, rows)):
        asked["cameras"] = config_hash(VIEWS)
    return asked


def row_hashes(
    rows: Sequence[Question], backend: Backend, settings: AskSettings, *more: Any
) -> dict[str, str]:
    """``{id: hash}`` of what each row's answers depend on, apart from other rows.

    A journal with these hashes serves a longer list of rows too. ``more``: what a
    record depends on beside its replies.
    """
    common = depends_on((), backend, settings)
    return {
        name: config_hash(
            [common, *more, questions_hash([row]), VIEWS if _is_drawn(row) else None]
        )
        for name, row in zip(unique_ids(rows), rows, strict=True)
    }


def _is_drawn(row: Question) -> bool:
    """Whether a row's video is a room drawn anew each time, by a camera of ours."""
    return str(row.get("video")).startswith(ROOM_SCHEME)


def unique_ids(rows: Sequence[Question]) -> list[str]:
    """The ids of rows.

    Raises
    ------
    SpacerError
        If one occurs twice.
    """
    ids = [row["id"] for row in rows]
    if len(set(ids)) != len(ids):
        twice = Counter(ids).most_common(1)[0][0]
        raise SpacerError(
            "rows to ask",
            kind="evaluation.id-twice",
            got=f"id {twice} twice",
            expected="once",
        )
    return ids


def ask(
    rows: Sequence[Question],
    backend: Backend,
    settings: AskSettings,
    journal: Journal,
    *,
    condition: str = "own",
    grid_size: int = 10,
    samples: int = 1,
) -> Generator[tuple[Question, list[Reply]], None, None]:
    """Yield each row that the journal lacks, with its replies, as they are ready.

    The caller makes a record of the replies and adds it to the journal. Close the
    iterator (``contextlib.closing``) where the loop may be left early: a backend may
    have requests under way.

    Of a backend that answers in batches, all rows of a batch are asked again if one is
    missing: padding changes the last digits of logits, so that half a batch could
    answer differently from the unbroken run.

    A row with a control word in its question is not asked; its replies say so.

    Parameters
    ----------
    rows : list of Question
        With distinct ids.
    backend : Backend
    settings : AskSettings
    journal : Journal
    condition : str
        One of ``CONDITIONS``: what is shown.
    grid_size : int
        Of forced random maps.
    samples : int
        Replies a row. They are asked together, each under an id of its own, since a
        draw depends on the id.

    Yields
    ------
    row : Question
        As it was given, whatever was shown.
    replies : list of Reply
        As many as ``samples``.
    """
    settings = conditioned(settings, condition)
    begin = beginning if settings.style.mode in TINY_MODES else begin_with_map
    shown, prefixes, blind = condition_rows(
        rows, condition, settings.seed, grid_size, begin
    )
    size = settings.batch_size if backend.batched else 1
    batches = [range(i, min(i + size, len(rows))) for i in range(0, len(rows), size)]
    waiting = [
        i
        for batch in batches
        if any(rows[j]["id"] not in journal.done for j in batch)
        for i in batch
    ]
    refused = {i: words for i in waiting if (words := control_words(rows[i]))}
    for i, words in refused.items():
        if rows[i]["id"] not in journal.done:
            yield rows[i], [Reply(failure=f"control_word: {words[0]}")] * samples
    waiting = [i for i in waiting if i not in refused]
    replies = backend.ask(
        [_sample(shown[i], number) for i in waiting for number in range(samples)],
        replace(settings, batch_size=settings.batch_size * samples),
        blind=blind,
        prefixes=prefixes and [prefixes[i] for i in waiting for _ in range(samples)],
    )
    kept: dict[int, dict[int, Reply]] = {}
    bar = progress(replies, backend.name, len(waiting) * samples)
    with contextlib.closing(replies):
        for number, reply in bar:
            place, sample = divmod(number, samples)
            row, found = rows[waiting[place]], kept.setdefault(place, {})
            found[sample] = reply
            if len(found) == samples and row["id"] not in journal.done:
                yield row, [found[i] for i in range(samples)]
            if len(found) == samples:
                del kept[place]


def _sample(row: Question, number: int) -> Question:
    """The row under the id of one of its samples; the first keeps its own."""
    if number == 0:
        return row
    return cast(Question, {**row, "id": f"{row['id']}/{number}"})
