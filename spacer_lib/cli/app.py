"""What all commands share: registration, ``--json``, options, and the clock."""

import functools
import inspect
import resource
import time
from pathlib import Path
from typing import Annotated, Optional

import typer

from spacer_lib.artifacts import make_folder, write_json

app = typer.Typer(
    name="spacer",
    help="Every long job by name, errors in one line.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

JsonFile = Annotated[
    Optional[Path], typer.Option("--json", metavar="FILE", help="Write the result.")
]
Workers = Annotated[int, typer.Option(min=1, help="Processes of this machine.")]
Scheduler = Annotated[
    Optional[str], typer.Option(metavar="ADDRESS", help="A Dask scheduler to run on.")
]
Seed = Annotated[int, typer.Option(min=0)]
Out = Annotated[Path, typer.Option(help="Output folder.")]
Benchmark = Annotated[str, typer.Option(help="Such as vsi, vsi-debiased.")]


def command(function):
    """Register a command whose returned dictionary ``--json`` writes; ``--help`` shows
    it in a panel named after its module."""
    signature = inspect.signature(function)

    @functools.wraps(function)
    def run(*, json_file=None, **options):
        if json_file is not None:
            make_folder(json_file.parent)  # complain before the work, not after
        result = function(**options)
        if json_file is not None:
            write_json(json_file, result)

    kind = inspect.Parameter.KEYWORD_ONLY
    extra = inspect.Parameter("json_file", kind, default=None, annotation=JsonFile)
    own = [p.replace(kind=kind) for p in signature.parameters.values()]
    run.__signature__ = signature.replace(parameters=[*own, extra])
    run.__annotations__ = function.__annotations__ | {"json_file": JsonFile}
    del run.__wrapped__  # the signature above is the true one
    panel = function.__module__.rpartition(".")[2].capitalize()
    app.command(function.__name__.replace("_", "-"), rich_help_panel=panel)(run)
    return function


class Clock:
    """Seconds and peak memory since it was made."""

    def __init__(self):
        self.start = time.monotonic()

    def spent(self):
        """``seconds``, and ``peak_memory_gb`` of this process or a child."""
        who = resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN
        peak = [resource.getrusage(w).ru_maxrss / 2**20 for w in who]
        seconds = round(time.monotonic() - self.start, 2)
        return {"seconds": seconds, "peak_memory_gb": round(max(peak), 2)}


@app.callback()
def _top():
    pass
