"""Text files of a scan, in any Unicode encoding."""

from pathlib import Path

from spacer_lib.artifacts import PathLike, text_encoding


def read_text(path: PathLike) -> str:
    """The text of a file without its byte-order mark; see ``text_encoding``.

    Bytes of no character become U+FFFD.
    """
    data = Path(path).read_bytes()
    return data.decode(text_encoding(data), errors="replace")
