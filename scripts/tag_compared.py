"""Tag the notebook cells whose outputs CI compares, after running what may vary again.

    export SPACER_QUICK=1
    for book in notebooks/[0-9]*.ipynb; do
        spacer run "$(basename "$book" .ipynb)" --out "build/quick/$(basename "$book")"
    done
    python scripts/tag_compared.py build/quick

After an edit of notebooks, and after ``spacer notebooks``. Each folder named holds
notebooks that were executed again, under their own names, in CI's cheap mode.
A cell gets the tag ``nbval-check-output`` in both halves if it shows something and
shows the same in every folder that has the notebook: texts alike, pictures byte for
byte. So the output of a tagged cell depends on neither mode nor clock.
Cells that name or show what differs between machines (``VARIES``, ``NOISE``) are left
out.
"""

import re
import sys
from pathlib import Path
from typing import Any

import jupytext
import nbformat
from jupytext.config import load_jupytext_config

from spacer_lib.artifacts import atomic_path, write_text
from spacer_lib.notebooks import FOLDER, names

TAG = "nbval-check-output"
VARIES = re.compile(
    r"perf_counter|time\.|seconds|memory|version|commit|provenance|getsource|"
    r"SPACER_|meta_file|cpu_count|cuda|os\.environ|"
    r"map_player|show_room|st_size|"  # their JPEGs, and sizes of such files
    r";$"  # nbval shows what ; hides
)
# Rounding: not of every processor.
NOISE = re.compile(r"\de-\d\d|separate ones by|loss beside")


def shown(cell: Any) -> list[Any]:
    """What a cell shows, without the text beside a picture."""
    found: list[Any] = []
    for output in cell.outputs:
        data = dict(output.get("data", {}))
        if "image/png" in data:
            data.pop("text/plain", None)
        found.append(output.get("text") or data)
    return [value for value in found if value]


def tag(name: str, folders: list[Path]) -> tuple[int, int]:
    """Tag one notebook; how many cells are compared, of how many that show something.

    The text beside an unchanged picture is taken from the first folder.
    """
    path = FOLDER / f"{name}.ipynb"
    book = nbformat.read(path, as_version=4)
    others = [_by_source(folder / path.name) for folder in folders]
    count = total = 0
    for cell in book.cells:
        tags = [t for t in cell.metadata.get("tags", []) if t != TAG]
        twins = [other.get(cell.source) for other in others]
        if cell.cell_type == "code" and shown(cell):
            total += 1
            same = all(twin and shown(cell) == shown(twin) for twin in twins)
            varies = VARIES.search(cell.source.rstrip()) or NOISE.search(
                repr(cell.outputs)
            )
            if same and not varies:
                count += 1
                tags.append(TAG)
                cell.outputs = twins[0].outputs
        cell.metadata.pop("tags", None)
        if tags:
            cell.metadata["tags"] = tags
    with atomic_path(path) as temporary:
        nbformat.write(book, temporary)
    config = load_jupytext_config(str(path.with_suffix(".py")))
    text = jupytext.writes(book, fmt="py:percent", config=config)
    write_text(path.with_suffix(".py"), text)
    return count, total


def _by_source(path: Path) -> dict[str, Any]:
    cells = nbformat.read(path, as_version=4).cells
    return {cell.source: cell for cell in cells if cell.cell_type == "code"}


if __name__ == "__main__":
    for name in names():
        made = [Path(a) for a in sys.argv[1:] if (Path(a) / f"{name}.ipynb").exists()]
        if made:
            print(name, "{} of {}".format(*tag(name, made)))
