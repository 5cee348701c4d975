"""Rewards: what a program pays a completion."""
