"""Held-out questions: generate, score, compare, with floors and intervals.

``config``        how a benchmark is asked
``backends``      who answers; ``chat``: a server; ``offline_vllm``; ``serve``: our own
``conditions``    what is shown
``runner``        asks, scores, resumes → ``predictions.jsonl``
``predictions``   one record per question
``foreign``       predictions made elsewhere, joined with their questions
``audit``         the same outputs under every extraction rule
``fallback``      a second reader, off by default
``floors``        what can be had without a model
``statistics``    tidy tables, paired differences, intervals
``report``        tables of runs for a paper
``consistency``   what a map says by itself, and kinds of failure
``analyses``      the papers' further tables, from any runs
``agreement``     a quiz on maps, and Gwet's AC1
"""
