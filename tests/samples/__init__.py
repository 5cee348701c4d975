"""Small synthetic benchmarks in the published files and folders, with true answers.

In each video a coloured square crosses a grey picture, and the questions are about it.
Equal seeds give equal files.
"""
