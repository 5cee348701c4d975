"""Rewards that a program checks."""
