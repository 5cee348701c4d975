"""Procedural rooms in ScanNet's own formats, or straight to memory.

``rooms`` describes, ``render`` draws, ``light`` gives ``Scene`` + frames without
files, ``write`` lays down ScanNet's on-disk layout.
"""

import os

# Open3D only casts rays here; its notebook widget would announce itself in every
# notebook that imports us.
os.environ.setdefault("OPEN3D_DISABLE_WEB_VISUALIZER", "true")
