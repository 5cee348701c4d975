"""Held-out questions: generate, score, compare, with floors and intervals.

``backends``      who answers
``conditions``    what is shown
``runner``        asks, scores, resumes → ``predictions.jsonl``
``predictions``   one record per question
``foreign``       predictions made elsewhere, joined with their questions
``audit``         the same outputs under every extraction rule
``floors``        what can be had without a model
``statistics``    tidy tables, paired differences, intervals
``report``        tables of runs for a paper
"""
