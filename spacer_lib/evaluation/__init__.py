"""Held-out questions: generate, score, compare, with floors and intervals.

``config``        how a benchmark is asked
``backends``      who answers; ``chat``: a server; ``offline_vllm``; ``serve``: our own
``conditions``    what is shown
``runner``        asks, scores, resumes → ``predictions.jsonl``
``predictions``   one record per question
``fallback``      a second reader, off by default
``floors``        what can be had without a model
``statistics``    tidy tables, paired differences, intervals
"""
