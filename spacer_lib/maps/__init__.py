"""Cognitive maps: `Scene` to grid, text and scores."""
