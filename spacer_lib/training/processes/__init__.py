"""The processes of a run: its plan, its launch, its workers, and why they fail."""
