"""Procedural rooms in ScanNet's own formats, or straight to memory.

``rooms`` describes, ``render`` draws, ``light`` gives ``Scene`` + frames without
files, ``write`` lays down ScanNet's on-disk layout.
"""
