"""Questions with checkable answers: generators, recipes, question sets, audit."""
