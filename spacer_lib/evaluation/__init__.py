"""Held-out questions: generate, score, compare, with floors and intervals.

``backends``      who answers
``conditions``    what is shown
``runner``        asks, scores, resumes → ``predictions.jsonl``
``predictions``   one record per question
``floors``        what can be had without a model
``statistics``    tidy tables, paired differences, intervals
"""
