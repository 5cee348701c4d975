"""Backends that need no model and import none, for tests of several processes."""

import os
import signal
import time
from types import SimpleNamespace

from spacer_lib.errors import SpacerError


class Told:
    """Answers with the place of the row in its task, and does what its id says."""

    name, batched = "told", True

    def identity(self):
        return {"backend": "told", "device": os.environ.get("CUDA_VISIBLE_DEVICES")}

    def ask(self, rows, settings, *, prefixes=None, blind=False):
        prefixes = prefixes or [""] * len(rows)
        for i, row in enumerate(rows):
            if row["id"] == "die":
                os.kill(os.getpid(), signal.SIGKILL)
            if row["id"] == "refuse":
                raise SpacerError("row", kind="tests.refused", got="a reason")
            if row["id"] == "fail":
                raise RuntimeError("not foreseen")
            time.sleep(0.05)
            text = f"<answer>{i} of {len(rows)} {prefixes[i]}"
            yield i, SimpleNamespace(text=text, tokens=i, failure=None)


def absent():
    """No backend."""
    raise SpacerError("model", kind="tests.absent", got="none")
