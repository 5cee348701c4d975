"""Ranks: launching, watching and ending them."""
