"""The ``spacer`` command: every long job by name, errors in one line.

Each command takes ``--json FILE`` for its result in a form machines read.
"""

import os
import sys
from pathlib import Path

# Each registers its commands; --help lists them in this order.
# isort: off
from spacer_lib.cli import data, training, evaluation, scoring, project  # noqa: F401

# isort: on
from spacer_lib.cli.app import app
from spacer_lib.errors import SpacerError

# Options that take all the words up to the next option.
_MANY = {
    "--meta",
    "--scenes",
    "--set",
    "--seeds",
    "--arms",
    "--held-out",
    "--allow-dataset",
}


def _spread(arguments):
    """``--meta a b`` as ``--meta a --meta b`` and, as papermill has it, ``-p a b`` as
    ``-p a=b``; an existing path ends ``--scenes``."""
    spread, option, words = [], None, iter(arguments)
    for word in words:
        if word == "-p":
            spread += ["-p", f"{next(words, '')}={next(words, '')}"]
            option = None
            continue
        if word.startswith("-") and word != "-":
            option = word if word in _MANY else None
            if option is None:
                spread.append(word)
        elif option == "--scenes" and Path(word).exists():
            spread.append(word)
            option = None
        else:
            spread += [option, word] if option else [word]
    return spread


def main(arguments=None):
    """Entry point; a ``SpacerError`` becomes one line and exit code 2."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    # One thread per process: on few cores two threads each are several times slower.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ.setdefault("TQDM_DISABLE", "0" if sys.stderr.isatty() else "1")
    try:
        app(_spread(arguments), prog_name="spacer")
    except SystemExit as end:
        return int(end.code or 0)
    except SpacerError as error:
        print(f"spacer {arguments[0]}: {error}", file=sys.stderr)
        return 2
    return 0
