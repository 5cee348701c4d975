"""What all commands share: registration, ``--json``, common options, the clock.

Commands are on two surfaces. ``spacer NAME`` is the way from rooms to results;
everything else is ``spacer extras NAME`` (and, unlisted, ``spacer NAME``).
"""

import copy
import functools
import inspect
import resource
import sys
import time
import typing
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Optional

import typer

from spacer_lib.artifacts import make_folder, write_json
from spacer_lib.cli.boundary import in_one_line
from spacer_lib.cli.choices import BENCHMARKS, one_of
from spacer_lib.errors import SpacerError

app = typer.Typer(
    name="spacer",
    help="From scanned rooms to trained and evaluated models, one command a step.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
INTERRUPTED = 130  # exit code of what SIGINT ended, as shells have it
extras = typer.Typer(
    name="extras",
    help="Commands and options beside the first path.",
    no_args_is_help=True,
)

JsonFile = Annotated[
    Optional[Path],
    typer.Option("--json", metavar="FILE", help="Also write the result as JSON."),
]
Workers = Annotated[
    int, typer.Option(min=1, help="Number of processes on this machine.")
]
Scheduler = Annotated[
    Optional[str],
    typer.Option(metavar="ADDRESS", help="Dask scheduler that runs the jobs."),
]
Seed = Annotated[int, typer.Option(min=0, help="Seed of all random choices.")]
Out = Annotated[Path, typer.Option(help="Output folder.")]
Benchmark = Annotated[
    str, typer.Option(metavar="NAME", help=f"Benchmark: {one_of(BENCHMARKS)}.")
]
AcceptEdited = Annotated[
    bool,
    typer.Option(help="Take answers that were edited after they were written."),
]
Setting = Annotated[
    list[str],
    typer.Option("--set", metavar="KEY=VALUE ...", help="Settings to change."),
]

Command = Callable[..., Any]


def command(example: str, *, advanced: tuple[str, ...] = ()) -> Callable:
    """Register a command of the first path.

    ``--json`` writes the dictionary that the function returns. ``--help`` lists the
    command under the name of its module.

    Parameters
    ----------
    example : str
        A whole command line, for ``--help``.
    advanced : tuple of str
        Parameters that ``spacer extras NAME`` shows and ``spacer NAME`` only takes.
    """

    def register(function: Command) -> Command:
        _add(app, function, example, hide=advanced)
        if advanced:
            name = _name(function)
            longer = example.replace(f"spacer {name}", f"spacer extras {name}", 1)
            _add(extras, function, longer)
        return function

    return register


def extra(example: str) -> Callable:
    """Register ``spacer extras NAME``, and ``spacer NAME`` without listing it."""

    def register(function: Command) -> Command:
        _add(extras, function, example)
        _add(app, function, example, hidden=True)
        return function

    return register


def _name(function: Command) -> str:
    return function.__name__.replace("_", "-")


def _add(
    group: typer.Typer,
    function: Command,
    example: str,
    *,
    hide: tuple[str, ...] = (),
    hidden: bool = False,
) -> None:
    """Add a command to a group, with ``--json`` and an example."""
    signature = inspect.signature(function)
    hints = typing.get_type_hints(function, include_extras=True)

    @functools.wraps(function)
    def run(*, json_file: Path | None = None, **options: Any) -> None:
        try:
            with in_one_line():  # here, since typer ends quietly at any broken pipe
                if json_file is not None:
                    _check_json(json_file)  # an error before the work, not after it
                result = function(**options)
                if json_file is not None:
                    write_json(json_file, result)
        except KeyboardInterrupt as interrupt:
            if not str(interrupt):
                raise
            # Typer would say "Aborted" alone.
            print(f"spacer {_name(function)}: {interrupt}", file=sys.stderr, flush=True)
            raise typer.Exit(INTERRUPTED) from None

    kind = inspect.Parameter.KEYWORD_ONLY
    own = [
        parameter.replace(
            kind=kind,
            annotation=_hidden(hints[name]) if name in hide else hints[name],
        )
        for name, parameter in signature.parameters.items()
    ]
    json_option = inspect.Parameter("json_file", kind, default=None)
    parameters = [*own, json_option.replace(annotation=JsonFile)]
    named: Any = run
    named.__signature__ = signature.replace(parameters=parameters)
    named.__annotations__ = {p.name: p.annotation for p in parameters}
    del named.__wrapped__  # the signature above is the true one
    group.command(
        _name(function),
        epilog=f"Example: {example}",
        rich_help_panel=function.__module__.rpartition(".")[2].capitalize(),
        hidden=hidden,
    )(run)


def _check_json(file: Path) -> None:
    make_folder(file.parent)
    if file.is_dir():
        raise SpacerError(
            f"--json {file}",
            kind="cli.json-is-a-folder",
            got="a folder",
            expected="the name of a file",
        )


def _hidden(annotation: Any) -> Any:
    """An option's annotation, left out of ``--help``."""
    kind, option = typing.get_args(annotation)
    option = copy.copy(option)
    option.hidden = True
    return Annotated[kind, option]


class Clock:
    """Seconds and peak memory since it was made."""

    def __init__(self) -> None:
        self.start = time.monotonic()

    def spent(self) -> dict[str, float]:
        """``seconds``, and ``peak_memory_gb`` of this process or of a child."""
        who = resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN
        peak = [resource.getrusage(w).ru_maxrss / 2**20 for w in who]
        seconds = round(time.monotonic() - self.start, 2)
        return {"seconds": seconds, "peak_memory_gb": round(max(peak), 2)}


@app.callback()
def _top() -> None:
    pass


@extras.callback()
def _extras() -> None:
    pass
