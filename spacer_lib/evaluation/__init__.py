"""Held-out questions: ask, score, compare, with floors and intervals.

Asking
``config``        how a benchmark is asked
``backends``      what answers: the interface, and a checkpoint in this process
``replies``       what comes back
``chat``          a server; ``offline_vllm``: vLLM in this process
``serve``         a checkpoint as a server
``floors``        answers without the video
``conditions``    what is shown
``ask``           the loop that asks, and its journal
``runner``        a benchmark → a folder; our own questions → a file
``fallback``      a second reader, off by default
``selection``     questions that training can learn from

Scoring
``predictions``   one prediction per question, by a reading rule
``foreign``       predictions made elsewhere, joined with their questions
``audit``         the same outputs under every reading rule

Comparing
``bootstrap``     intervals over rooms
``statistics``    tidy tables and paired differences
``report``        tables of runs for a paper
``consistency``   whether answers follow from drawn maps, and kinds of failure
``counterfactual``  whether answers change beside another room's video
``analyses``      the papers' further tables, from any runs
``agreement``     a quiz on maps, and Gwet's AC1
"""
