"""Questions with checkable answers: generators, balancing, dataset files."""
