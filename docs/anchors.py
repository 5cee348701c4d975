"""Anchors of headings, as links in the notebooks name them."""


def anchor(heading: str) -> str:
    """What JupyterLab and GitHub make of a notebook's heading.

    Examples
    --------
    >>> anchor("The files of a scan")
    'The-files-of-a-scan'
    """
    return heading.strip().replace(" ", "-")
