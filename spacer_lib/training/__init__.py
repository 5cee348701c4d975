"""Training: recipes, data, SG-RLVR and its baselines, and the processes of a run."""
