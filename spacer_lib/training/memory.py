"""Memory of this process: peaks of a run, and what each phase of a step needs."""

import spacer_lib.training.environment  # noqa: F401  # isort: skip

import resource

import psutil
import torch

_EARLIER = 0.0  # GPU peak before the last reset, GiB


def peak_memory_gb() -> tuple[float, float]:
    """Peak resident memory of this process and peak GPU memory (0 without one), GiB."""
    resident = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    return round(resident, 2), round(max(_EARLIER, _gpu_peak_gb()), 2)


def memory_since_last_gb() -> float:
    """Memory since the last call, GiB: the GPU's peak; without a GPU, what is resident
    now.

    The peak is reset, which ``peak_memory_gb`` takes into account.
    """
    if not torch.cuda.is_available():
        return float(psutil.Process().memory_info().rss) / 2**30
    global _EARLIER
    peak = _gpu_peak_gb()
    _EARLIER = max(_EARLIER, peak)
    torch.cuda.reset_peak_memory_stats()
    return peak


def _gpu_peak_gb() -> float:
    if not torch.cuda.is_available():
        return 0.0
    return float(torch.cuda.max_memory_allocated()) / 2**30
