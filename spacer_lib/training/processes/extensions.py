"""The C++ extensions that DeepSpeed compiles on first use."""

import contextlib
import hashlib
import importlib.metadata
import importlib.util
import os
import re
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import psutil

from spacer_lib.artifacts import make_folder
from spacer_lib.errors import SpacerError


def ready_extensions(
    names: Sequence[str], environment: dict[str, str], say: Callable[[str], None]
) -> None:
    """Check that extensions can be compiled, and remove what would block that.

    Parameters
    ----------
    names : sequence of str
        Of ``plan.extensions_of``.
    environment : dict
        Of the workers; ``TORCH_EXTENSIONS_DIR`` is set, ``PYTHONPATH`` may get an
        entry.
    say : callable
        Gets a line if there is something to compile.

    Raises
    ------
    SpacerError
        Without a compiler, or with spaces in the paths that the linker reads.
    """
    if not names:
        return
    compiler = environment.get("CXX", "c++")
    if not shutil.which(compiler, path=environment["PATH"]):
        raise SpacerError(
            "training on several CPU workers, or with offload, needs a C++ compiler",
            kind="training.no-compiler",
            got=f"no {compiler} on PATH",
            remedy="install one (Debian: apt-get install g++), or set gpus to 1 and "
            "advanced.offload to none",
        )
    folder = extensions_folder(environment)
    environment["TORCH_EXTENSIONS_DIR"] = str(folder)
    for lock in folder.glob("**/lock"):
        # A killed build leaves its lock, and the next build would wait for ever.
        if not _held(lock):
            lock.unlink(missing_ok=True)
    avoid_spaces(environment, folder)
    absent = [name for name in names if not any(folder.glob(f"**/{name}/*.so"))]
    if absent:
        named = " and ".join(absent)
        say(f"first start: DeepSpeed compiles {named} (about 90 s each, once)")


def extensions_folder(environment: Mapping[str, str]) -> Path:
    """Where extensions are compiled.

    ``TORCH_EXTENSIONS_DIR``, if it is set. By default a folder for each environment
    and its versions of torch and DeepSpeed: torch's own default is one folder for all
    environments of a user, and who compiles an extension again takes it from the
    processes of the others.
    """
    chosen = environment.get("TORCH_EXTENSIONS_DIR")
    if chosen:
        return Path(chosen)
    versions = [importlib.metadata.version(name) for name in ("torch", "deepspeed")]
    key = hashlib.sha256("\n".join([sys.prefix, *versions]).encode()).hexdigest()[:12]
    return Path.home() / ".cache" / "torch_extensions" / f"spacer-{key}"


def avoid_spaces(environment: dict[str, str], folder: Path) -> None:
    """Let workers import torch from a path that the linker can read.

    PyTorch hands its own folder to the linker without quotes: below a folder with a
    space nothing can be compiled. A link in ``folder`` avoids the space.

    Raises
    ------
    SpacerError
        If ``folder``, where extensions are compiled, has a space too.
    """
    site = _site_packages()
    if not re.search(r"\s", str(site)):
        return
    if re.search(r"\s", str(folder)):
        raise SpacerError(
            "compiling DeepSpeed's CPU extensions",
            kind="training.space-in-path",
            got=f"a space in {folder}",
            expected="a path without spaces",
            remedy="set TORCH_EXTENSIONS_DIR to such a folder, or set gpus to 1",
        )
    name = hashlib.sha256(str(site).encode()).hexdigest()[:12]
    link = make_folder(folder) / f"site-packages-{name}"
    with contextlib.suppress(FileExistsError):
        link.symlink_to(site)
    known = filter(None, [str(link), environment.get("PYTHONPATH")])
    environment["PYTHONPATH"] = os.pathsep.join(known)


def _site_packages() -> Path:
    """The folder that torch is installed in; torch itself is not imported."""
    spec = importlib.util.find_spec("torch")
    assert spec is not None and spec.origin is not None
    return Path(spec.origin).parents[1]


def _held(path: Path) -> bool:
    """Whether a process has the file open."""
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if str(path) in (file.path for file in process.open_files()):
                return True
    return False
