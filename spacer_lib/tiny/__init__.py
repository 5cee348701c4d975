"""The embedded default: a tiny Qwen2.5-VL, its curriculum and its warm start.

Importing ``models`` first makes torchvision importable before ``transformers`` asks
for it.
"""

import spacer_lib.models  # noqa: F401
