"""Changes to transformers at run time, each with its equality test."""
