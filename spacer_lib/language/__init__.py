"""Text: prompts, completions, options and numbers."""
