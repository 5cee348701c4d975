"""The dataset card: a ``README.md`` for people, with a head for ``datasets``."""

from collections.abc import Iterable, Mapping
from typing import Any

import yaml

from spacer_lib.markup import markdown_code, markdown_table, markdown_text

LICENCE = """\
Questions and maps are derived from scene annotations. Where these come from ScanNet,
use is bound to [ScanNet's terms of use][tos] (research, no redistribution of the
scans); ScanNet++ and ARKitScenes have terms of
their own. Synthetic rooms are free to use. No recording is part of this folder.

[tos]: http://kaldir.vc.in.tum.de/scannet/ScanNet_TOS.pdf"""


def front_matter(parts: Iterable[str]) -> str:
    """The lines that tell ``datasets`` the Parquet file of each part."""
    files = [{"split": part, "path": f"{part}.parquet"} for part in parts]
    head = {
        "configs": [{"config_name": "default", "data_files": files}],
        "license": "other",
        "task_categories": ["visual-question-answering"],
        "language": ["en"],
    }
    return f"---\n{yaml.safe_dump(head, sort_keys=False)}---\n"


def _shown_text(recipe: Mapping[str, Any]) -> list[str]:
    if recipe["frames"] is None:
        return []
    return [
        f"Each object asked about fills {recipe['least_share']:.1%} of at least one of "
        f"the {recipe['frames']} frames of the video that the model is shown."
    ]


def card_text(report: Mapping[str, Any]) -> str:
    """The card of one output folder, from its ``report.json``."""
    counts = report["counts"]
    filled = [part for part in counts if sum(counts[part].values())]
    recipe, versions = report["recipe"], report["provenance"]["packages"]
    total = sum(sum(mine.values()) for mine in counts.values())
    name = markdown_text(recipe["name"])
    command = f"spacer qa --recipe {recipe['name']} --seed {report['seed']}"
    lines = [
        front_matter(filled) + f"# {name}: {total:,} questions about rooms",
        "",
        f"Made by {markdown_code(command)} after {markdown_text(recipe['source'])}.",
        "",
    ]
    rows = [
        (
            part,
            task,
            "all" if row["wanted"] is None else f"{row['wanted']:,}",
            f"{row['candidates']:,}",
            f"{row['kept']:,}",
        )
        for part, tasks in report["tasks"].items()
        for task, row in tasks.items()
    ]
    columns = ("part", "question type", "wanted", "candidates", "kept")
    lines += markdown_table(columns, rows, left=2).splitlines()
    scenes = ", ".join(
        f"{markdown_text(part)} {len(ids):,}" for part, ids in report["scenes"].items()
    )
    lines += [
        "",
        f"Scenes: {scenes}. Left out because evaluation uses their rooms: "
        f"{len(report['dropped'])}. Parts share no physical space.",
        *_shown_text(recipe),
        "",
        "Each row has VSI-Bench's fields (`id`, `dataset`, `scene_name`, "
        "`question_type`, `question`, `options`, `ground_truth`) and `problem_type`, "
        "`categories`, `map` (the true cognitive map as JSON text, "
        f"{recipe['grid_size']} x {recipe['grid_size']} cells, `[x_col, y_row]`) and "
        "`video` (relative to this folder). `report.json` tells what was rejected and "
        "why, `maps.json` holds one map per scene.",
        "",
        "```python",
        'datasets.load_dataset("path/to/this/folder")',
        "```",
        "",
        "## Licence",
        "",
        LICENCE,
        "",
        "## Versions",
        "",
        f"commit {report['provenance']['commit']}, generator "
        f"{report['provenance']['generator_version']}, Python "
        f"{report['provenance']['python']}, "
        + ", ".join(f"{package} {version}" for package, version in versions.items()),
        "",
    ]
    return "\n".join(lines)
