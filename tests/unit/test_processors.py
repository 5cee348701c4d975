"""The same questions on every processor: OpenBLAS with the kernels of several.

Kernels add the terms of a product in different orders, and older ones round twice where
newer ones round once. ``OPENBLAS_CORETYPE`` chooses one when numpy is loaded.
"""

import functools
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from spacer_lib.questions.recipes import RECIPES

# Processor flags that a kernel needs. "" is what OpenBLAS chooses itself.
KERNELS = {"": (), "Haswell": ("avx2", "fma"), "SkylakeX": ("avx512f", "avx512dq")}
OLDEST = "Prescott"  # SSE3 alone
RECIPE_NAMES = sorted(path.stem for path in RECIPES.glob("*.yaml"))

# Prints {what: sha256 of its bytes}.
WORK = """
import hashlib, json, os, sys, tempfile
from pathlib import Path
import numpy as np
from spacer_lib import cli
from spacer_lib.artifacts import write_json
from spacer_lib.questions.audit import audit_files
from spacer_lib.questions.generators import question_rows
from spacer_lib.questions.recipes import load_recipe
from spacer_lib.rooms.geometry import oriented_box, require_rigid, transform_points
from spacer_lib.rooms.scene import Scene
from spacer_lib.rooms.synthetic.layout import draw_room
from spacer_lib.rooms.synthetic.views import VIEWS, first_in_view, to_scene

prints = {}

def note(what, data):
    prints[what] = hashlib.sha256(data).hexdigest()

rng = np.random.default_rng(0)
matrices = rng.normal(size=(2, 60, 60))
note("BLAS", (matrices[0] @ matrices[1]).tobytes())
scan = rng.normal(size=(300, 3)) * (1.0, 0.6, 0.3)
T = np.eye(4)
T[:2, :2], T[:3, 3] = ((0.8, -0.6), (0.6, 0.8)), (1.1, -2.3, 0.4)
points = transform_points(require_rigid(T, "T"), scan)
note("parsed points", points.tobytes())
note("parsed box", b"".join(a.tobytes() for a in oriented_box(points)))

folder = Path(tempfile.mkdtemp(dir=sys.argv[1]))
scenes = {}
for seed in range(16):
    room = draw_room(seed, "furnished", f"scene{20000 + seed}_00")
    seen = first_in_view(room, VIEWS["walk"])
    meta = to_scene(room, VIEWS["walk"], first_seen=seen).to_meta()
    for boxes in meta["object_bbox"].values():  # bounds follow from the boxes
        for box in boxes:
            del box["min"], box["max"]
    scenes[room.scene_id] = meta
write_json(folder / "meta.json", scenes)
note("scenes", (folder / "meta.json").read_bytes())
command = ["qa", "--meta", str(folder / "meta.json"), "--no-figures"]
for recipe in sys.argv[2].split(","):
    out = folder / recipe
    assert cli.main([*command, "--recipe", recipe, "--out", str(out)]) == 0
    files = [*out.glob("*.jsonl"), *out.glob("candidates/*"), out / "maps.json"]
    note(f"recipe {recipe}", b"".join(f.read_bytes() for f in sorted(files)))

# Every pair of objects, so that few rooms have enough near the border of a decimetre.
rules = load_recipe("vsibench").rules
rows = [
    row
    for name, meta in scenes.items()
    for row in question_rows(
        Scene.from_meta(name, meta), 0, per_task=99, rules=rules,
        tasks=["object_abs_distance"],
    )[0]
]
note("official distances", json.dumps(rows).encode())
if os.environ.get("SPACER_REAL_META") and os.environ.get("SPACER_REAL_QA"):
    names = os.environ["SPACER_REAL_META"], os.environ["SPACER_REAL_QA"]
    note("audit", json.dumps(audit_files(*names)).encode())
print(json.dumps(prints))
"""


@functools.cache
def prints_of(kernel, folder):
    """What ``WORK`` prints where OpenBLAS uses the kernel."""
    environ = {k: v for k, v in os.environ.items() if k != "OPENBLAS_CORETYPE"}
    environ |= {"OPENBLAS_CORETYPE": kernel} if kernel else {}
    done = subprocess.run(
        [sys.executable, "-c", WORK, str(folder), ",".join(RECIPE_NAMES)],
        env=environ | {"TQDM_DISABLE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("processors")


def flags():
    """Instruction sets of this processor, as Linux lists them."""
    listed = Path("/proc/cpuinfo")
    words = listed.read_text().split() if listed.is_file() else []
    return set(words)


@pytest.mark.parametrize("kernel", KERNELS)
def test_each_recipe_writes_the_same_bytes_on_any_kernel(kernel, folder):
    missing = set(KERNELS[kernel]) - flags()
    if missing:
        pytest.skip(f"kernel {kernel}: this processor has no {', '.join(missing)}")
    old, new = dict(prints_of(OLDEST, folder)), dict(prints_of(kernel, folder))
    if old.pop("BLAS") == new.pop("BLAS"):
        pytest.skip(f"OpenBLAS multiplies alike as {OLDEST} and as {kernel or 'now'}")
    assert [name for name in old if old[name] != new[name]] == []
    assert len(old) >= len(RECIPE_NAMES) + 4
