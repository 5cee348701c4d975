"""Keep the records of a warm start's seeds, and say which one is typical.

    python -m scripts.keep_warmstarts runs/warmstart_0 runs/warmstart_1 runs/warmstart_2

Writes ``papermill_runs/warmstart.json`` from each run's ``provenance.json``. The
typical seed has the median score on the demonstrated camera. To ship it:
``spacer extras warmstart --seed SEED --out ITS_RUN --ship``.
"""

import sys
from pathlib import Path
from typing import Any

from spacer_lib.artifacts import PROJECT_ROOT, read_json, write_json

KEPT = PROJECT_ROOT / "papermill_runs" / "warmstart.json"


def typical(seeds: dict[str, dict[str, Any]]) -> str:
    """The seed of the median score, of an odd number of seeds."""
    if not len(seeds) % 2:
        raise SystemExit(f"{len(seeds)} seeds; give an odd number: one is the median")
    ranked = sorted(seeds, key=lambda seed: seeds[seed]["metrics"]["seen"]["score"])
    return ranked[len(ranked) // 2]


def main(folders: list[str]) -> None:
    """Write the file and print one line a seed."""
    seeds = {}
    for folder in folders:
        record = read_json(Path(folder) / "provenance.json")
        last = record["last_losses"]
        seeds[str(record["config"]["seed"])] = {
            "commit": record["commit"],
            "seconds": record["seconds"],
            "cpu_seconds": {stage: row["cpu_seconds"] for stage, row in last.items()},
            "metrics": record["metrics"],
        }
    shipped = typical(seeds)
    write_json(KEPT, {"seeds": seeds, "typical": shipped})
    for seed, found in sorted(seeds.items()):
        seen = found["metrics"]["seen"]
        mark = " (typical)" if seed == shipped else ""
        print(f"seed {seed}: score {seen['score']}, hits {seen['hits']}{mark}")


if __name__ == "__main__":
    main(sys.argv[1:])
