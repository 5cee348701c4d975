"""Cognitive maps: from a `Scene` to cells (`grid`), as `text`, and their `scores`."""
