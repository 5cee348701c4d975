"""ScanNet's files on disk → ``Scene``.

``labels`` reads the label table, ``splits`` the lists of scans, ``sens`` a recording
frame by frame, ``frames2d`` the instance images; ``parse`` makes a ``Scene`` of them.
"""
