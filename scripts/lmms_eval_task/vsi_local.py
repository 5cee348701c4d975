"""A task of lmms-eval on rows and videos of one's own, in VSI-Bench's columns.

The videos lie where lmms-eval unpacks VSI-Bench's: ``$HF_HOME/vsibench/<dataset>/
<scene_name>.mp4``. Prompt and scores are lmms-eval's.
"""

import re

from lmms_eval.tasks.vsibench import utils as official

doc_to_visual = official.vsibench_doc_to_visual
doc_to_text = official.vsibench_doc_to_text
doc_to_messages = official.vsibench_doc_to_messages
overall = official.vsibench_aggregate_overall


def process_results(doc, results):
    """Official scores, under one name in place of nine."""
    scored = official.vsibench_process_results(doc, results)
    return {"vsibench_overall": scored["vsibench_overall"]}


def bare_text(doc, lmms_eval_specific_kwargs=None):
    """Question and options, a line each, as in the answer mode ``tiny``."""
    return "\n".join([doc["question"], *(doc["options"] or ())])


def bare_messages(doc, lmms_eval_specific_kwargs=None):
    """One user turn: the video, then ``bare_text``."""
    video = [{"type": "video", "url": path} for path in doc_to_visual(doc)]
    words = {"type": "text", "text": bare_text(doc)}
    return [{"role": "user", "content": [*video, words]}]


def tagged_results(doc, results):
    """``process_results`` of what stands inside ``<answer></answer>``."""
    inside = re.search(r"<answer>(.*?)</answer>", results[0], re.DOTALL)
    return process_results(doc, [inside[1].strip() if inside else results[0]])
