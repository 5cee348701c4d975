"""Text files of any Unicode encoding, with or without a byte-order mark."""

import codecs
from pathlib import Path

from spacer_lib.artifacts import PathLike

# UTF-32 first: its little-endian mark begins with that of UTF-16.
_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


def read_text(path: PathLike) -> str:
    """The text of a file without its byte-order mark.

    Bytes of no character become U+FFFD. Without a mark the text is UTF-8, or UTF-16 if
    every other one of its first bytes is 0.
    """
    data = Path(path).read_bytes()
    encoding = next((name for mark, name in _MARKS if data.startswith(mark)), "")
    if not encoding:
        head = data[:64]
        zeros = [head[k::2].count(0) / max(1, len(head[k::2])) for k in (0, 1)]
        encoding = "utf-16-le" if zeros[1] > 0.8 else "utf-8"
        encoding = "utf-16-be" if zeros[0] > 0.8 else encoding
    return data.decode(encoding, errors="replace")
