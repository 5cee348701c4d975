"""The ``spacer`` command: every long job by name, errors in one line.

Each command takes ``--json FILE`` for its result in a form that machines read. Modules
that load torch, transformers or Open3D are imported once the arguments are checked.
"""

import contextlib
import os
import sys
from collections.abc import Sequence
from pathlib import Path

# Each module registers its commands; --help lists them in this order.
# isort: off
from spacer_lib.cli import data, training, evaluation, scoring, project  # noqa: F401
from spacer_lib.cli import reproduce, alignment  # noqa: F401

# isort: on
from spacer_lib.cli.app import app, extras
from spacer_lib.cli.boundary import (
    OutputClosed,
    check_working_folder,
    flush_output,
    in_one_line,
    open_standard_streams,
)
from spacer_lib.cli.evaluation import SETTINGS
from spacer_lib.errors import SpacerError

app.add_typer(extras, name="extras", rich_help_panel="More")

# Options that take all words up to the next option.
_MANY = {
    "--meta",
    "--scenes",
    "--set",
    "--seeds",
    "--arms",
    "--held-out",
    "--allow-dataset",
}


def _spread(arguments: Sequence[str]) -> list[str]:
    """Arguments in the one spelling that typer reads.

    ``--meta a b`` becomes ``--meta a --meta b``; ``-p a b``, as papermill has it,
    ``-p a=b``; of ``evaluate``, ``--frames 8`` becomes ``--set frames=8``. An existing
    path ends ``--scenes``.
    """
    asked = _command(arguments) in ("evaluate", "extras evaluate")
    spread: list[str] = []
    option, words = None, iter(arguments)
    for word in words:
        if word == "-p":
            spread += ["-p", f"{next(words, '')}={next(words, '')}"]
            option = None
            continue
        name, equals, value = word.partition("=")
        if asked and name.startswith("--") and name[2:].replace("-", "_") in SETTINGS:
            value = value if equals else next(words, "")
            spread += ["--set", f"{name[2:].replace('-', '_')}={value}"]
            option = None
        elif word.startswith("-") and word != "-":
            option = word if word in _MANY else None
            if option is None:
                spread.append(word)
        elif option == "--scenes" and Path(word).exists():
            spread.append(word)
            option = None
        else:
            spread += [option, word] if option else [word]
    return spread


def _command(arguments: Sequence[str]) -> str:
    """``evaluate``, or ``extras evaluate``."""
    return " ".join(arguments[: 2 if arguments[:1] == ["extras"] else 1])


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; every error becomes one line and exit code 2.

    If standard output is closed by its reader, as after ``| head``, the code is 1.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    open_standard_streams()
    # One thread per process: on few cores two threads each are several times slower.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ.setdefault("TQDM_DISABLE", "0" if sys.stderr.isatty() else "1")
    try:
        with in_one_line():
            check_working_folder()
            code = _run(words)
            flush_output()
            return code
    except OutputClosed:
        return 1
    except SpacerError as error:
        line = " ".join(str(error).split())
        with contextlib.suppress(OSError):  # standard error is full or closed
            print(f"spacer {_command(words)}: {line}", file=sys.stderr, flush=True)
        return 2


def _run(words: Sequence[str]) -> int:
    try:
        app(_spread(words), prog_name="spacer")
    except SystemExit as end:
        return int(end.code or 0)
    return 0
