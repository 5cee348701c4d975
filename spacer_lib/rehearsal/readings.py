"""What a stage reads: JSON that grows while it runs, so that a stop loses nothing."""

import gc
import statistics
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from spacer_lib.artifacts import PathLike, make_folder, provenance, write_json

STAGE_S = 540  # after this a stage starts nothing more


class Readings:
    """The readings of one stage on one device.

    Parameters
    ----------
    stage : str
    out_dir : path
        Gets ``STAGE.json``.
    say : callable
        Called with a line for each reading.
    small : bool
        Sizes that a CPU can do in seconds.
    """

    def __init__(
        self,
        stage: str,
        out_dir: PathLike,
        say: Callable[[str], object],
        small: bool = False,
    ) -> None:
        self.path = make_folder(out_dir) / f"{stage}.json"
        self.stage, self.small, self._say = stage, small, say
        self.cuda = torch.cuda.is_available()
        self.device = torch.device("cuda" if self.cuda else "cpu")
        self.found: list[dict[str, Any]] = []
        self._start = time.monotonic()

    @property
    def big(self) -> bool:
        """Whether published sizes are run: on a GPU, unless small ones are asked."""
        return self.cuda and not self.small

    @property
    def seconds(self) -> float:
        """Since the start of the stage."""
        return time.monotonic() - self._start

    def add(self, name: str, *, predicted: object = None, **facts: Any) -> None:
        """Keep and say one reading.

        Parameters
        ----------
        name : str
        predicted : object, optional
            What was worked out before anything ran on a GPU, for published sizes.
        **facts
            Numbers with their unit in the name, such as ``update_s``.
        """
        told = {} if predicted is None else {"predicted": predicted}
        self.found.append({"name": name, **facts, **told})
        shown = ", ".join(f"{key} {_short(value)}" for key, value in facts.items())
        more = f" (predicted: {predicted})" if predicted is not None else ""
        self._say(f"{self.stage}: {name}: {shown}{more}")
        self.write()

    def write(self) -> None:
        """Write ``STAGE.json``."""
        name = torch.cuda.get_device_name() if self.cuda else "CPU"
        write_json(
            self.path,
            {
                "stage": self.stage,
                "device": name,
                "small": not self.big,
                "seconds": round(self.seconds, 1),
                "failed": self.failed(),
                "readings": self.found,
                "provenance": provenance(),
            },
        )

    def failed(self) -> list[str]:
        """Names of what failed."""
        return [one["name"] for one in self.found if "error" in one]

    def attempt(self, name: str, part: Callable[..., object], *given: Any) -> None:
        """Run ``part(*given)``: if it fails, that is its reading, and the rest goes on.

        Out of memory is the likeliest failure, and an answer in itself.
        """
        if self.seconds > STAGE_S:
            self.add(name, error=f"not started: the stage has taken {STAGE_S} s")
            return
        try:
            part(*given)
        except Exception as error:
            trace = traceback.extract_tb(error.__traceback__)[-3:]
            where = [f"{Path(at.filename).name}:{at.lineno}" for at in trace]
            what = f"{type(error).__name__}: {str(error)[:300]}"
            self.add(name, error=what, where=where)
        finally:
            gc.collect()
            if self.cuda:
                torch.cuda.empty_cache()

    def timed(self, work: Callable[[], object], runs: int = 3) -> float:
        """Median seconds of ``work`` after one run that is not timed."""
        work()
        found = []
        for _ in range(runs):
            self.wait()
            start = time.perf_counter()
            work()
            self.wait()
            found.append(time.perf_counter() - start)
        return statistics.median(found)

    def wait(self) -> None:
        """Until the GPU has done what it was given."""
        if self.cuda:
            torch.cuda.synchronize()

    def peak_gib(self, work: Callable[[], object]) -> float | None:
        """GiB of GPU memory while ``work`` runs; ``None`` without a GPU."""
        if not self.cuda:
            work()
            return None
        torch.cuda.reset_peak_memory_stats()
        work()
        return round(torch.cuda.max_memory_allocated() / 2**30, 2)

    def matrix_rate(self) -> float:
        """Operations a second of a large bf16 product on a GPU, an fp32 one else."""
        size = 8192 if self.cuda else 512
        kind = torch.bfloat16 if self.cuda else torch.float32
        factor = torch.randn(size, size, device=self.device, dtype=kind)
        return 2 * size**3 / self.timed(lambda: factor @ factor, 10)

    def copy_rate(self) -> float:
        """Bytes a second that a copy within the device's memory reads and writes."""
        size = 2**31 if self.cuda else 2**25
        source = torch.zeros(size, dtype=torch.uint8, device=self.device)
        target = torch.empty_like(source)
        return 2 * size / self.timed(lambda: target.copy_(source), 10)


def _short(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
