"""Run tests with one module's source changed: guards switched off, mutants.

The change is made where the module is imported, in a forked process; no file changes.
The process that forks has imported the large packages but nothing of the project, so
that a run costs the tests alone.
"""

import contextlib
import faulthandler
import importlib
import importlib.abc
import importlib.machinery
import json
import os
import resource
import select
import signal
import sys
import tempfile
import time
import types
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]
_QUIET = {
    "OMP_NUM_THREADS": "1",
    "HF_HUB_OFFLINE": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "TQDM_DISABLE": "1",
    "MPLBACKEND": "Agg",
    # nbval alone takes longer to import than most tests to run.
    "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
}
_PLUGINS = "-p pytest_timeout -p _hypothesis_pytestplugin -p no:cacheprovider".split()
READERS = (
    "numpy",
    "scipy.optimize",
    "scipy.special",
    "pandas",
    "pyarrow.parquet",
    "hypothesis",
    "jiwer",
    "rouge_score.rouge_scorer",
    "yaml",
    "cv2",
    "tqdm.auto",
)
TRAINING = (
    "torchvision",
    "transformers",
    "datasets",
    "peft",
    "trl.trainer.grpo_trainer",
)
_KEPT: list[types.ModuleType] = []


@dataclass(frozen=True)
class Change:
    """Other text in a module's source.

    Attributes
    ----------
    module : str
        Dotted name.
    old, new : str
        ``old`` occurs once in the source.
    """

    module: str
    old: str
    new: str

    @property
    def text(self) -> str:
        """The changed source.

        Raises
        ------
        ValueError
            If ``old`` does not occur exactly once.
        """
        source = source_path(self.module).read_text(encoding="utf-8")
        if source.count(self.old) != 1:
            raise ValueError(
                f"{self.module} has {source.count(self.old)} times, not once: "
                f"{self.old!r}"
            )
        return source.replace(self.old, self.new)


def source_path(module: str) -> Path:
    """The file of a module of the project."""
    path = ROOT.joinpath(*module.split("."))
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


class _Loader(SourceFileLoader):
    def __init__(self, name: str, path: str, text: str) -> None:
        super().__init__(name, path)
        self.text = text

    def get_code(self, fullname: str) -> types.CodeType:
        code: types.CodeType = self.source_to_code(self.text.encode(), self.path)
        return code


class _Finder(importlib.abc.MetaPathFinder):
    def __init__(self, module: str, text: str) -> None:
        self.module, self.text = module, text

    def find_spec(
        self,
        fullname: str,
        path: Sequence[str] | None,
        target: types.ModuleType | None = None,
    ) -> ModuleSpec | None:
        if fullname != self.module:
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is None or spec.origin is None:
            return None
        spec.loader = _Loader(fullname, spec.origin, self.text)
        return spec


def import_changed(module: str, text: str) -> None:
    """From now on ``module`` is imported with this source.

    Raises
    ------
    ValueError
        If it was imported before.
    """
    if module in sys.modules:
        raise ValueError(f"{module} was imported before it was changed")
    sys.meta_path.insert(0, _Finder(module, text))


@dataclass
class Outcome:
    """What tests did.

    Attributes
    ----------
    passed, skipped : list of str
        Tests.
    failed : dict
        Test → name of the exception it ended with.
    broken : dict
        What could not be collected or set up → name of the exception.
    seconds : float
    timed_out : bool
    """

    passed: list[str] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    broken: dict[str, str] = field(default_factory=dict)
    seconds: float = 0.0
    timed_out: bool = False


class _Recorder:
    """A pytest plugin that fills in an outcome."""

    def __init__(self) -> None:
        self.outcome = Outcome()

    def pytest_exception_interact(self, call: Any, report: Any) -> None:
        ran = getattr(report, "when", None) == "call"
        ended = self.outcome.failed if ran else self.outcome.broken
        ended[report.nodeid] = call.excinfo.type.__name__

    def pytest_runtest_logreport(self, report: Any) -> None:
        if report.when == "call" and report.passed:
            self.outcome.passed.append(report.nodeid)
        elif report.skipped:
            self.outcome.skipped.append(report.nodeid)


def _be_quiet() -> None:
    """Set the surroundings of tests, where they are not set."""
    for name, value in _QUIET.items():
        os.environ.setdefault(name, value)


def warm(*, training: bool) -> None:
    """Import what tests need beside the project, before the first fork.

    Parameters
    ----------
    training : bool
        Also what tests of training need.
    """
    _be_quiet()
    for name in READERS:
        importlib.import_module(name)
    if training:
        # Must come before transformers; forked processes import it anew.
        importlib.import_module("spacer_lib.training.environment")
        for name in [n for n in sys.modules if n.split(".")[0] == "spacer_lib"]:
            _KEPT.append(sys.modules.pop(name))  # they hold torchvision's operators
        for name in TRAINING:
            importlib.import_module(name)


def run_tests(
    tests: Sequence[str],
    module: str = "",
    text: str = "",
    *,
    first_only: bool = False,
    seconds: float = 120,
) -> Outcome:
    """Run tests in a forked process, where ``module`` has the source ``text``.

    Parameters
    ----------
    tests : sequence of str
        As pytest takes them, and its options.
    module, text : str
        Empty: nothing is changed.
    first_only : bool
        Stop at the first failure; ``tests`` are then files, without options.
    seconds : float
        Of processor time, after which the process is ended; at the latest after ten
        times as many on the clock.
    """
    start, longest = time.monotonic(), 10 * seconds
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        _run_here(tests, module, text, first_only, seconds, writing)
    os.close(writing)
    said = _read_line(reading, start + longest)
    os.close(reading)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    spent = time.monotonic() - start
    if said is None:
        late = spent >= longest or os.WTERMSIG(status) == signal.SIGXCPU
        return Outcome(timed_out=late, seconds=spent)
    return Outcome(**{**json.loads(said), "seconds": spent})


def _read_line(pipe: int, end: float) -> bytes | None:
    """What the child wrote; ``None`` if it ended or ran too long before that."""
    said = b""
    while not said.endswith(b"\n"):
        left = end - time.monotonic()
        if left <= 0 or not select.select([pipe], [], [], left)[0]:
            return None
        part = os.read(pipe, 65536)
        if not part:
            return None
        said += part
    return said


def _run_here(
    tests: Sequence[str],
    module: str,
    text: str,
    first_only: bool,
    seconds: float,
    writing: int,
) -> None:
    """In the child; never returns."""
    try:
        os.setsid()
        os.chdir(ROOT)
        _be_quiet()
        nowhere = os.open(os.devnull, os.O_RDWR)
        for stream in (0, 1, 2):
            os.dup2(nowhere, stream)
        # Ends the child even if its parent was killed.
        faulthandler.dump_traceback_later(10 * seconds, exit=True, file=2)
        resource.setrlimit(resource.RLIMIT_CPU, (int(seconds), int(seconds) + 1))
        if module:
            import_changed(module, text)
        recorder = _Recorder()
        with tempfile.TemporaryDirectory() as folder:
            options = [f"--basetemp={folder}/t", "-q", *_PLUGINS]
            if not first_only:
                pytest.main([*options, *tests], plugins=[recorder])
            for name in tests if first_only else ():  # later files are not collected
                if not (recorder.outcome.failed or recorder.outcome.broken):
                    pytest.main([*options, "-x", name], plugins=[recorder])
        os.write(writing, json.dumps(asdict(recorder.outcome)).encode() + b"\n")
    finally:
        os._exit(0)
