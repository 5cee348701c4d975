"""Changes to transformers at run time. Each has a test of equal numbers."""
