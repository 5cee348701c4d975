"""Which room of VSI-Bench a scan shows, in any spelling of its name.

VSI-Bench asks about 288 rooms of ScanNet, ScanNet++ and ARKitScenes. If a training set
contains one of them, scores on the benchmark are worthless. Names are therefore
compared after normalisation: upper case, spaces, folders, file suffixes, a missing
``scene`` and a missing or misspelt data set make no difference.

Source: VSI-Bench, https://github.com/vision-x-nyu/thinking-in-space.
"""

import functools
import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import unquote

from spacer_lib.artifacts import read_json
from spacer_lib.errors import SpacerError

DATASETS = ("scannet", "scannetpp", "arkitscenes")  # with rooms in VSI-Bench
_SPELLINGS = {
    "scannetv": "scannet",
    "scannetplusplus": "scannetpp",
    "arkitscene": "arkitscenes",
    "arkit": "arkitscenes",
}
# "scene0011", "scene11"; with marks between or letters behind, four digits or more.
_SCENE = re.compile(
    r"(?<![a-z0-9])scene(?:([0-9]+)(?![a-z0-9])|[\s_.-]*([0-9]{4,})(?![0-9]))"
)
# Data sets of ours that have digits for names and no room of VSI-Bench.
_OTHERS = ("synthetic", "videor")  # Video-R1
# Keys of a row that hold words, not names of rooms.
_WORDS = frozenset(
    "question problem options ground_truth solution answer map categories".split()
)
_BARE_SCAN = re.compile(r"0*([0-9]{1,4})_[0-9]{2}(?![0-9])")


class Room(NamedTuple):
    """A room of a benchmark, such as ``scene0011`` of ``scannet``."""

    dataset: str
    name: str

    def __str__(self) -> str:
        return f"{self.dataset} {self.name}"


def dataset_name(dataset: object) -> str:
    """One spelling for a data set's name; "" if there is none.

    Examples
    --------
    >>> [dataset_name(n) for n in ("ScanNet", "ScanNet++", "scannet_v2", "ARKitScenes")]
    ['scannet', 'scannetpp', 'scannet', 'arkitscenes']
    >>> dataset_name(None)
    ''
    """
    if not isinstance(dataset, str):
        return ""
    letters = re.sub(r"[^a-z]", "", dataset.casefold().replace("+", "p"))
    return "" if letters == "unknown" else _SPELLINGS.get(letters, letters)


@functools.cache
def benchmark_rooms() -> dict[str, frozenset[str]]:
    """``{data set: names of rooms}`` that VSI-Bench uses.

    VSI-Bench uses 88 of the 142 spaces of ScanNet's validation list. All 142 are here.
    """
    content = read_json(Path(__file__).with_name("benchmark_rooms.json"))
    return {name: frozenset(content[name]) for name in DATASETS}


def benchmark_room(
    name: object, dataset: object = None, *, allowed: Iterable[str] = ()
) -> Room | None:
    """The VSI-Bench room that a scan's name or a media path stands for, if any.

    Parameters
    ----------
    name
        A scene id, or a path or address with one in it.
    dataset
        The data set's name; ``None``: unknown. Names of digits only (ARKitScenes'
        videos, ``0011_00`` for a scan of ScanNet) are compared unless the data set is
        known to be another one.
    allowed
        Names of data sets that are known to have no room of VSI-Bench although their
        names look alike. The three of VSI-Bench cannot be allowed.

    Examples
    --------
    >>> str(benchmark_room("videos/SCENE0011_00.mp4"))
    'scannet scene0011'
    >>> str(benchmark_room("0011_00", "ScanNet"))
    'scannet scene0011'
    >>> benchmark_room("scene0000_00", "scannet") is None
    True
    """
    dataset = dataset_name(dataset)
    if type(name) is int:
        name = str(name)
    if not isinstance(name, str) or name.startswith("room://"):
        return None
    if dataset not in DATASETS and dataset in map(dataset_name, allowed):
        return None
    return _room_in(name, dataset)


@functools.lru_cache(maxsize=2**16)
def _room_in(name: str, dataset: str) -> Room | None:
    rooms = benchmark_rooms()
    text = unquote(name) if "%" in name else name
    text = text if text.isascii() else unicodedata.normalize("NFKC", text)
    text = text.casefold()
    for scene in _SCENE.finditer(text):
        space = f"scene{int(scene[1] or scene[2]):04d}"
        if space in rooms["scannet"]:
            return Room("scannet", space)
    for word in re.findall(r"[a-z0-9]+", text):
        if word in rooms["scannetpp"]:
            return Room("scannetpp", word)
        if word in rooms["arkitscenes"] and _may_be("arkitscenes", dataset, text):
            return Room("arkitscenes", word)
    bare = _BARE_SCAN.match(re.split(r"[/\\]", text)[-1])
    if bare and _may_be("scannet", dataset, text):
        space = f"scene{int(bare[1]):04d}"
        if space in rooms["scannet"]:
            return Room("scannet", space)
    return None


def _may_be(wanted: str, dataset: str, text: str) -> bool:
    """Whether a name of digits can belong to a data set."""
    known = (*DATASETS, *_OTHERS)
    return dataset in ("", wanted) or (
        dataset not in known or wanted in re.sub(r"[^a-z]", "", text)
    )


def question_room(
    row: Mapping[str, Any], *, allowed: Iterable[str] = ()
) -> Room | None:
    """The VSI-Bench room that a question is about, by any name or path in its row."""
    dataset = row.get("dataset")
    for name in _names(row):
        room = benchmark_room(name, dataset, allowed=allowed)
        if room is not None:
            return room
    return None


def benchmark_questions(
    rows: Iterable[Mapping[str, Any]], allowed: Iterable[str] = ()
) -> list[tuple[str, Room]]:
    """(scene or id, room) of the questions about a room of VSI-Bench."""
    allowed, found = list(allowed), []
    for row in rows:
        room = question_room(row, allowed=allowed)
        if room is not None:
            found.append((str(row.get("scene_name") or row.get("id")), room))
    return found


def _names(row: Mapping[str, Any]) -> Iterator[str | int]:
    """Names and paths in a row, under any key but those of words, at any depth."""
    waiting = [value for key, value in row.items() if key not in _WORDS]
    while waiting:
        value = waiting.pop(0)
        if isinstance(value, Mapping):
            waiting += [v for key, v in value.items() if key not in _WORDS]
        elif isinstance(value, list | tuple):
            waiting += value
        elif isinstance(value, str) or type(value) is int:
            yield value


def require_no_benchmark_rooms(
    what: str, found: Iterable[tuple[str, Room]], remedy: str
) -> None:
    """Refuse training data that shows rooms of VSI-Bench.

    Parameters
    ----------
    what
        The data, for the message.
    found
        (name as spelled there, room) of each one.
    remedy
        How to leave these out.

    Raises
    ------
    SpacerError
        If ``found`` is not empty. The message says how to allow a data set by name.
    """
    found = list(found)
    if not found:
        return
    name, room = found[0]
    spelled = f"{name} ({room})" if name.casefold() != str(room) else name
    raise SpacerError(
        f"{what} shows rooms that VSI-Bench asks about",
        kind="rooms.benchmark-room",
        got=f"{len({room for _, room in found})} rooms in {len(found)} places, first "
        f"{spelled}",
        expected="none",
        remedy=f"{remedy}; if they only share names with VSI-Bench's, give their data "
        "set a name of its own and allow it (advanced.allow_datasets, "
        "--allow-dataset NAME)",
    )
