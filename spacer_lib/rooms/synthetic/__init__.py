"""Procedural rooms, in ScanNet's own file formats or in memory.

``layout`` describes a room, ``views`` films it and makes its ``Scene``, ``render``
draws frames, and ``write`` writes ScanNet's files.
"""

import os

# Open3D only casts rays here. Its notebook widget would otherwise print a notice in
# every notebook that renders a room.
os.environ.setdefault("OPEN3D_DISABLE_WEB_VISUALIZER", "true")
