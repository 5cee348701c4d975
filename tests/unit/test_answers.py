"""The answer grammar: what is read, how, and what never is."""

import random
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spacer_lib.language.answers import HOWS, read_figure, read_letter
from spacer_lib.language.choices import read_choice
from spacer_lib.language.numbers import read_number
from spacer_lib.rewards.config import PRESETS
from spacer_lib.rewards.score import score

OPTIONS = ["A. lamp", "B. desk", "C. office chair", "D. shelf"]

LETTERS = [
    # answer, letter, how
    ("D", "D", "letter"),
    ("(d).", "D", "letter"),
    ("D. shelf", "D", "letter_and_text"),
    ("shelf", "D", "option_text"),
    ("**D**", "D", "wrapped"),
    ("*D*", "D", "wrapped"),
    ("__D__", "D", "wrapped"),
    ("`D`", "D", "wrapped"),
    ("'D'", "D", "wrapped"),
    ("“D”", "D", "wrapped"),
    ("[D]", "D", "wrapped"),
    ("((D))", "D", "wrapped"),
    ("D;", "D", "wrapped"),
    ("D!", "D", "wrapped"),
    (r"\boxed{D}", "D", "wrapped"),
    (r"$\boxed{\text{D}}$", "D", "wrapped"),
    ("<b>D</b>", "D", "wrapped"),
    ("the shelf", "D", "wrapped"),
    ("d) shelf", "D", "letter_and_text"),
    ("D, shelf", "D", "letter_and_text"),
    ("D - shelf", "D", "letter_and_text"),
    ("[D] shelf", "D", "letter_and_text"),
    ("**C.** Office Chair", "C", "letter_and_text"),
    ("D shelf", "D", "letter_and_text"),
    ("Answer: D", "D", "sentence"),
    ("**Answer:** D", "D", "sentence"),
    ("Answer:\nD", "D", "sentence"),
    ("The answer is D", "D", "sentence"),
    ("The correct option is (D).", "D", "sentence"),
    ("So the final answer is: option D", "D", "sentence"),
    ("Correct: (D) shelf", "D", "sentence"),
    ("Option D", "D", "sentence"),
    ("I would choose D", "D", "sentence"),
    ("D is the correct answer.", "D", "sentence"),
    ("Answer: the office chair", "C", "sentence"),
    ("D. Shelf (left of the door)", "D", "note"),
    ("D. shelf\n\nNote: the lamp is farther away.", "D", "note"),
    ("D, because it is near", "D", "note"),
    ("D\nD", "D", "note"),
]


LETTERS += [
    # Chinese, alone and mixed, with full-width forms
    ("答案是D", "D", "sentence"),
    ("答案：D", "D", "sentence"),
    ("答案: D. shelf", "D", "sentence"),
    ("选D", "D", "sentence"),
    ("我选择 D。", "D", "sentence"),
    ("正确答案是 **D**。", "D", "sentence"),
    ("最终答案：(D)", "D", "sentence"),
    ("因此，答案应该是D。", "D", "sentence"),
    ("所以选D", "D", "sentence"),
    ("选项D", "D", "sentence"),
    ("D。", "D", "wrapped"),
    ("（D）", "D", "wrapped"),
    ("【D】", "D", "wrapped"),
    ("「D」", "D", "wrapped"),
    ("D、shelf", "D", "letter_and_text"),
    ("D．shelf", "D", "letter_and_text"),
    ("D：shelf", "D", "letter_and_text"),
    # Markdown, LaTeX and tokens of chat templates
    ("```\nD\n```", "D", "wrapped"),
    ("> D", "D", "wrapped"),
    ("- D", "D", "wrapped"),
    ("### Final Answer: D", "D", "sentence"),
    ("**Final Answer:**\n\n**D**", "D", "sentence"),
    (r"$$\boxed{\mathbf{(D)}}$$", "D", "wrapped"),
    (r"\boxed{D. \text{shelf}}", "D", "letter_and_text"),
    ("<|begin_of_box|>D<|end_of_box|>", "D", "wrapped"),
    ("D<|im_end|>", "D", "wrapped"),
    ("D</s>", "D", "wrapped"),
    ("✅ D", "D", "wrapped"),
    ("D ✓", "D", "wrapped"),
    # clauses, speakers, the letter behind its text
    ("Based on the video, the answer is D.", "D", "sentence"),
    ("Seen from the door, the correct option is (D).", "D", "sentence"),
    ("The shelf is nearest, so the answer is D.", "D", "sentence"),
    ("That would be D.", "D", "sentence"),
    ("Assistant: D", "D", "sentence"),
    ("Prediction: D", "D", "sentence"),
    ("shelf (D)", "D", "letter_and_text"),
    ("The shelf (option D)", "D", "letter_and_text"),
    ("Shelf - D", "D", "letter_and_text"),
]


@pytest.mark.parametrize("answer, letter, how", LETTERS)
def test_letters(answer, letter, how):
    assert read_letter(answer, OPTIONS)[::2] == (letter, how)


@pytest.mark.parametrize(
    "answer",
    [
        "C or D",
        "C/D",
        "C, D",
        "C and D",
        "C D",
        "C\nD",
        "D\nor C",
        "D\n\nWait, it is C",
        "**C** or **D**",
        r"\boxed{C} \boxed{D}",
        "D. shelf or C. office chair",
        "Either C or D",
        "Not D",
        "The answer is not D",
        "Answer: C or D",
        "D is not correct",
        "D?",
        "E",
        "Option E",
        "The answer is F",
        "E. shelf",
        "D. desk",
        "D, the desk",
        "A desk is closest",
        "A desk",
        "A lamp",
        "Actually",
        "Actually, D",
        "Based on the video",
        "neither",
        "(D",
        "desk or shelf",
        "",
        "答案是C或D",
        "不是D",
        "答案不是D",
        "我不选D",
        "C和D",
        "C、D",
        "可能是D",
        "无法确定",
        "Ｄ",
        '{"answer": "D"}',  # the shape of a truth is no answer
        '{"answer": "C or D"}',
        '{"answer": ["C", "D"]}',
        '{"answer": "C", "choice": "D"}',
        '{"answer": "E"}',
        '{"wrong_answer": "D"}',
        '{"answer": "not D"}',
        "❌ D",
        "- C\n- D",
        "> C or D",
        "The desk is nearest, so the answer is D.",
        "C is far, so the answer is D.",
        "C, the answer is D",
        "A; the answer is D",
        "The answer is not C, the answer is D",
        "I am not sure, the answer is D",
        "It is the desk. So the answer is D",
        "desk (D)",
        "Desk - D",
        "shelf (D or C)",
        "shelf (not D)",
        "It could be D.",
        "None of the above",
        "I'm sorry, but I can't help with that.",
        "D is wrong",
        "If the door is open, D; otherwise C",
        "The options are A, B, C, D.",
        "D2",
        "D-Day",
    ],
)
def test_what_chooses_nothing(answer):
    assert read_letter(answer, OPTIONS).answer is None


def test_without_options_a_letter_alone_is_read():
    assert read_letter("The answer is **C**.", None).answer == "C"
    assert read_letter("C. desk", None).answer is None


@pytest.mark.parametrize(
    "answer, value, how",
    [
        ("4", 4, "number"),
        ("2.5 m", 2.5, "number"),
        ("**4**", 4, "wrapped"),
        (r"\boxed{4}", 4, "wrapped"),
        ("`4`", 4, "wrapped"),
        ("There are 4.", 4, "sentence"),
        ("Answer: 4", 4, "sentence"),
        ("4\n\nNote: 1 at the door, 3 at the wall.", 4, "note"),
        ("４", None, None),
        ("答案是4", 4, "sentence"),
        ("答案：4。", 4, "sentence"),
        ("4个", 4, "sentence"),
        ("约4个", 4, "sentence"),
        ("房间里有4把椅子。", 4, "sentence"),
        ("I can see four chairs.", 4, "sentence"),
        ("four (4)", 4, "sentence"),
        ("≈ 4", 4, "sentence"),
        (r"\(4\)", 4, "wrapped"),
        (r"\boxed{4\text{ chairs}}", 4, "sentence"),
        ('{"answer": 4}', 4, "sentence"),
        ('{"count": 4}', 4, "sentence"),
        ("4<|im_end|>", 4, "wrapped"),
        ("more than 4", None, None),
        ("fewer than four", None, None),
        ("no less than 4", None, None),
        ("not 4", None, None),
        ("There aren't 4", None, None),
        ("不是4", None, None),
        ("超过4个", None, None),
        ("少于4", None, None),
        ("4、5", None, None),
        ("3～5", None, None),
        ("4 or 5", None, None),
        ("between 3 and 5", None, None),
        ("I cannot determine the number.", None, None),
        ("several", None, None),
        ("4\n5", None, None),
        ("4\nor 5", None, None),
    ],
)
def test_numbers(answer, value, how):
    assert read_figure(answer)[1:3] == (value, how)


@pytest.mark.parametrize(
    "answer, unit, value",
    [
        ("2.5米", "m", 2.5),
        ("250厘米", "m", 2.5),
        ("大约 2.5 米长", "m", 2.5),
        ("25平方米", "m2", 25),
        ("25平方米", "m", None),
        ("1.5～2.0米", "m", None),
        (r"$2.5\,\text{m}$", "m", 2.5),
        ('{"distance": "250 cm"}', "m", 2.5),
        ("about 2.5 meters (250 cm)", "m", 2.5),
        ("less than 2 m", "m", None),
        ("2 m 50 cm", "m", None),
    ],
)
def test_measures(answer, unit, value):
    assert read_figure(answer, unit).value == value


def test_the_strict_grammar_is_the_exact_readers():
    for answer, *_ in LETTERS:
        exact = read_choice(answer, OPTIONS)
        assert read_letter(answer, OPTIONS, "strict").answer == exact
    noted = "4\n\n3 at the wall"
    assert read_figure(noted, grammar="strict").failure == "ambiguous_number"


def test_only_our_preset_reads_widely():
    item = {"id": "0", "problem_type": "multiple choice", "options": OPTIONS}
    item |= {"ground_truth": "D", "question": "?"}
    for name, config in PRESETS.items():
        tag = "observe" if config.shape == "observe" else "think"
        before = "" if config.shape == "vanilla" else f"<{tag}>two steps east</{tag}>"
        earned = score(f"{before}<answer>**D**</answer>", item, config)
        assert earned.task == name.startswith("ours"), name
        assert (earned.how == "wrapped") == name.startswith("ours")


texts = st.lists(
    st.sampled_from(["D", "B", ".", "\n", " ", "**", "or", "shelf", "(", "answer is"])
).map("".join)


@given(texts | st.text(max_size=40))
def test_no_text_raises_and_what_is_read_exactly_stays(text):
    found, exact = read_letter(text, OPTIONS), read_choice(text, OPTIONS)
    assert exact in (None, found.answer)
    assert (found.answer is None) == (found.how is None) == (found.failure is not None)
    value, _ = read_number(text)
    stated = read_figure(text)
    assert value in (None, stated.value)
    assert {found.how, stated.how} <= {None, *HOWS}


@pytest.mark.parametrize(
    "piece",
    "( [ ** _ __ ` $ # D D. D\n (D) {( answer option the \\boxed{ is or I 4 4\n "
    "\n \\text{D} shelf".split(" ")
    + [" ", "answer is ", "so the ", " is the correct", "it is ", "<b>", "a_b"]
    + ['{"answer": "D", ', ", the answer is ", "<|a", "- ", "选", "，", "not ", "）"],
)
def test_the_longest_answer_is_read_at_once(piece):
    for text in ((piece * 2_000)[:2_000], "x" + (piece * 2_000)[:1_998] + "x"):
        start = time.process_time()
        read_letter(text, OPTIONS)
        read_figure(text)
        assert time.process_time() - start < 0.05


def test_fuzzed_texts_are_read_at_once():
    rng = random.Random(3)
    pieces = ["D", ". ", "\n", "**", "(", ")", "answer", " is ", "shelf", "4", "_", "$"]
    slowest = 0.0
    for _ in range(1_000):
        text = "".join(rng.choice(pieces) * rng.choice((1, 1, 9, 99)) for _ in range(9))
        start = time.process_time()
        read_letter(text, OPTIONS)
        read_figure(text)
        slowest = max(slowest, time.process_time() - start)
    assert slowest < 0.05
