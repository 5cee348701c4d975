"""Timings: what this library does against the other way of doing it.

Run from the checkout: ``python -m benches.data``, ``python -m benches.rewards`` and
``python -m benches.step``.
"""
