"""Model servers on the command line: the fallback reader of completions."""

from typing import Annotated, Any, Optional

import typer

from spacer_lib.errors import SpacerError

FallbackEndpoint = Annotated[
    Optional[str],
    typer.Option(
        metavar="URL", help="Server that reads completions which the rule cannot."
    ),
]
FallbackModel = Annotated[
    Optional[str], typer.Option(help="Name of the model on that server.")
]
FallbackKey = Annotated[
    str, typer.Option(help="Environment variable that holds that server's key.")
]


Deadline = Annotated[
    float,
    typer.Option(
        min=0.1, metavar="SECONDS", help="Most seconds for one row, retries included."
    ),
]
MaxReplyBytes = Annotated[
    int, typer.Option(min=1, metavar="BYTES", help="Most bytes of one reply.")
]
MaxFailed = Annotated[
    float,
    typer.Option(
        min=0, max=1, metavar="SHARE", help="Stop if more of the requests fail."
    ),
]


def endpoint(
    url: str, name: str, key_variable: str, concurrency: int, **options: Any
) -> Any:
    """A backend that asks an OpenAI-compatible server; see ``chat.Endpoint``."""
    from spacer_lib.evaluation.chat import Endpoint

    return Endpoint(
        url, name, key_variable=key_variable, concurrency=concurrency, **options
    )


def fallback_backend(
    url: str | None,
    name: str | None,
    key_variable: str,
    concurrency: int = 4,
    **options: Any,
) -> Any:
    """The fallback reader that the options name, or ``None``.

    Raises
    ------
    SpacerError
        If only one of server and model is given.
    """
    if bool(url) != bool(name):
        raise SpacerError(
            "--fallback-endpoint and --fallback-model",
            kind="cli.half-fallback",
            got="one of them",
            expected="both",
        )
    if not url or not name:
        return None
    return endpoint(url, name, key_variable, concurrency, **options)
