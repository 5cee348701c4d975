"""Scans, synthetic rooms and videos; ends in `Scene`."""
