"""Held-out questions: generate, score, compare, with floors and intervals.

``backends``      who answers
``conditions``    what is shown
``runner``        asks, scores, resumes → ``predictions.jsonl``
``predictions``   one record per question
``floors``        what can be had without a model
``statistics``    tidy tables, paired differences, intervals
``consistency``   what a map says by itself, and kinds of failure
``analyses``      the papers' further tables, from any runs
``agreement``     a quiz on maps, and Gwet's AC1
"""
