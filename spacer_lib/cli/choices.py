"""Names that commands offer, known without loading what they name.

``--help`` and usage errors must not wait for torch. ``tests/test_cli.py`` compares each
tuple with the library's own.
"""

from pathlib import Path

from spacer_lib.artifacts import PROJECT_ROOT, listing
from spacer_lib.errors import SpacerError, nearest

CONFIGS = PROJECT_ROOT / "configs"

BENCHMARKS = (
    "vsi",
    "vsi-debiased",
    "held-out",
    "sti",
    "spar",
    "videomme",
    "tempcompass",
    "longvideobench",
    "videommmu",
    "revsi-16",
    "revsi-32",
    "revsi-64",
    "revsi-all",
    "mmsi",
    "mindcube-tiny",
    "mindcube",
    "viewspatial",
    "embspatial",
    "blink",
    "3dsr",
    "site",
    "mmsi-video",
    "vsi-super-recall",
    "vsi-super-count",
)
SUITES = ("easi-8",)
CONDITIONS = ("own", "other", "blind", "shuffled", "oracle", "random_map")
BACKENDS = ("auto", "transformers", "vllm")
FLOORS = ("strongest", "majority", "constant", "category", "frequency", "random")
PRESETS = (
    "spacer-paper",
    "spacer-released",
    "spatial-r1",
    "spatial-r1-released",
    "vsgrpo-think",
    "vsgrpo-observe",
    "vsgrpo-vanilla",
    "ours",
    "ours+consistency",
    "ours+assertions",
    "ours+boxes",
    "ours+relations",
)
RULES = (
    "strict",
    "official",
    "final_answer",
    "first_number",
    "last_letter",
    "official_after_tag",
    "spacer_released",
    "video_r1",
    "lmms_eval",
    "vlmevalkit",
    "easi",
)
EXTRACTIONS = (
    "strict",
    "official",
    "final_answer",
    "official_after_tag",
    "spacer_released",
    "video_r1",
    "lmms_eval",
    "vlmevalkit",
    "easi",
    "strict+fallback",
)
STAGES = (
    "env",
    "device",
    "attention",
    "step",
    "decode",
    "train",
    "lora7b",
    "evaluate",
)
POSITIONS = ("library", "original")


def names_in(folder: str) -> tuple[str, ...]:
    """Names of the YAML files in a folder of ``configs``, such as ``qa``."""
    return tuple(path.stem for path in listing(CONFIGS / folder, "*.yaml"))


def one_of(names: tuple[str, ...]) -> str:
    """``a, b or c``, for help texts."""
    return " or ".join(filter(None, [", ".join(names[:-1]), names[-1]]))


def check_choice(what: str, name: str, known: tuple[str, ...], kind: str) -> None:
    """Refuse a name that is not among ``known``.

    Raises
    ------
    SpacerError
        Of ``kind``, with all names and the nearest one.
    """
    if name not in known:
        raise SpacerError(
            what,
            kind=kind,
            got=name,
            expected=", ".join(known),
            remedy=nearest(name, known),
        )


def check_model(name: str) -> None:
    """Refuse a checkpoint folder that does not exist; names of the hub pass.

    Raises
    ------
    SpacerError
        If ``name`` reads as a folder and holds no checkpoint.
    """
    places = [Path(name), PROJECT_ROOT / name]
    if any((place / "config.json").is_file() for place in places):
        return
    # A name of the hub is OWNER/MODEL, and there is no folder OWNER here.
    parents = [place.parent for place in places]
    if len(Path(name).parts) != 2 or any(parent.is_dir() for parent in parents):
        raise SpacerError(
            f"checkpoint {name}",
            kind="cli.no-model",
            got="no config.json in such a folder",
            expected="a folder written by save_pretrained, or OWNER/MODEL of the hub",
            remedy="fix the path, or make the folder first (notebook 05)",
        )


def check_exists(path: Path, what: str) -> None:
    """Refuse a path that does not exist.

    Raises
    ------
    SpacerError
        With the path.
    """
    if not path.exists():
        raise SpacerError(
            f"{what} {path}",
            kind="cli.no-file",
            got="no such file or folder",
            remedy="correct the path, or run the step that writes it",
        )
