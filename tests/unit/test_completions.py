"""Reading model text: every failure by name, letters and numbers by hand."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spacer_lib.cogmap import map_to_text
from spacer_lib.completions import (
    option_texts,
    read_choice,
    read_completion,
    read_number,
)

MAP = '<map>{"chair":[[2,5]]}</map>'

FORMATS = [
    # text, failure, answer, why
    (f"<think>{MAP} two steps</think><answer>B</answer>", None, "B", "map in think"),
    (f"<think>so</think>\n{MAP}\n<answer>B</answer>", None, "B", "map between"),
    ("<think>so</think><answer>B</answer>", None, "B", "no map"),
    ("\n <think>so</think> \n <answer> B </answer>\n", None, "B", "white space"),
    ("<think>1 < 2, <b></think><answer>a<b</answer>", None, "a<b", "other brackets"),
    ("B", "no_answer_tag", None, "a bare letter"),
    ("", "no_answer_tag", None, "nothing"),
    ("<think>so</think>B", "no_answer_tag", None, "an answer without its tag"),
    ("<think>so</think>B</answer>", "no_answer_tag", None, "only its end"),
    ("<think>so</think><answer>B", "unclosed_answer", None, "cut off"),
    ("<think>so</think></answer><answer>B", "unclosed_answer", None, "inside out"),
    ("<think>so</think><answer>B</answer><answer>B</answer>", "two_answers", None,
     "twice the same is still two"),
    ("<think>so</think><answer>A<answer>B</answer>", "two_answers", None,
     "opened twice"),
    ("<think>so</think><answer>A</answer>B</answer>", "two_answers", None,
     "closed twice"),
    ("<think>so</think><answer> \n</answer>", "empty_answer", "", "an empty answer"),
    ("<answer>B</answer>", "no_think", "B", "no reasoning"),
    ("so</think><answer>B</answer>", "no_think", "B", "think was never opened"),
    ("<Think>so</Think><answer>B</answer>", "no_think", "B", "tags are lower case"),
    ("<think>so<answer>B</answer>", "unclosed_think", "B", "think never ends"),
    ("<think>a</think><think>b</think><answer>B</answer>", "two_thinks", "B", "two"),
    ("<think>a<think>b</think><answer>B</answer>", "two_thinks", "B", "nested"),
    ("<think>so<answer>B</answer></think>", "answer_inside_think", "B", "inside"),
    ("<think>so<answer>B</think></answer>", "answer_inside_think", "B</think>",
     "crossed"),
    ("Well <think>so</think><answer>B</answer>", "text_outside_tags", "B", "before"),
    ("<think>so</think> so <answer>B</answer>", "text_outside_tags", "B", "between"),
    ("<think>so</think><answer>B</answer>!", "text_outside_tags", "B", "after"),
    ("<answer>B</answer><think>so</think>", "text_outside_tags", "B", "answer first"),
    (f"{MAP}<think>so</think><answer>B</answer>", "text_outside_tags", "B",
     "a map before think"),
    (f"<think>so</think><answer>B</answer>{MAP}", "text_outside_tags", "B",
     "a map after the answer"),
    (f"<think>so</think>{MAP}x{MAP}<answer>B</answer>", "text_outside_tags", "B",
     "text hidden between two maps"),
]  # fmt: skip


@pytest.mark.parametrize("text, failure, answer, why", FORMATS)
def test_formats(text, failure, answer, why):
    reading = read_completion(text)
    assert (reading.failure, reading.answer) == (failure, answer), why
    assert reading.format_ok == (failure is None)


MAPS = [
    # think, map failure, map, why
    (MAP, None, {"chair": [(2, 5)]}, "one map"),
    ("so", "no_map", None, "none"),
    ("<map>{", "unclosed_map", None, "cut off"),
    ("</map>", "no_map", None, "only its end"),
    (MAP + MAP, "two_maps", None, "two"),
    ("<map>north</map>", "map_unreadable", None, "words"),
    ("<map></map>", "map_unreadable", None, "an empty block"),
    ('<map>{"chair":[[2,10]]}</map>', "map_off_grid", None, "off the grid"),
    ("<map>" + " " * 20_000 + "{}</map>", "map_too_long", None, "far too long"),
]


@pytest.mark.parametrize("think, failure, cells, why", MAPS)
def test_maps(think, failure, cells, why):
    text = f"<think>{think} so</think><answer>B</answer>"
    reading = read_completion(text, expect_map=True)
    assert (reading.map_failure, reading.map) == (failure, cells), why
    assert reading.answer == "B" and reading.format_ok  # a bad map spoils nothing else


def test_a_map_is_missed_only_where_it_is_expected():
    text = "<think>so</think><answer>B</answer>"
    assert read_completion(text).map_failure is None
    assert read_completion(text, expect_map=True).map_failure == "no_map"
    inside_answer = f"<think>so</think><answer>{MAP}</answer>"
    assert read_completion(inside_answer, expect_map=True).map_failure == "no_map"


def test_the_map_is_read_from_a_broken_format_too():
    reading = read_completion(f"{MAP} the answer is <answer>B</answer>")
    assert reading.map == {"chair": [(2, 5)]} and reading.failure == "no_think"


@pytest.mark.parametrize(
    "think, empty",
    [("", True), (" \n", True), (MAP, True), (f" {MAP} ", True), (f"{MAP} so", False)],
)
def test_an_empty_think_is_flagged(think, empty):
    reading = read_completion(f"<think>{think}</think><answer>B</answer>")
    assert reading.flags == (("empty_think",) if empty else ())
    assert reading.format_ok  # flagged, and left to whoever reads the flags


cells = st.dictionaries(
    st.sampled_from(["chair", "lamp"]),
    st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), min_size=1, max_size=4),
)
words = st.text("abc 123.,", max_size=20)


@given(cells, words, words.filter(str.strip))
def test_what_is_written_is_read(drawn, thought, answer):
    block = f"<map>{map_to_text(drawn)}</map>"
    inside = f"<think>{block}{thought}</think><answer>{answer}</answer>"
    between = f"<think>{thought}</think>{block}<answer>{answer}</answer>"
    for text in (inside, between):
        reading = read_completion(text, expect_map=True)
        assert reading.format_ok and reading.map_failure is None
        assert (reading.map, reading.answer) == (drawn, answer.strip())


pieces = st.sampled_from(
    ["<think>", "</think>", "<map>", "</map>", "<answer>", "</answer>", " ", "so", "4",
     '{"a":[[1,2]]}', "{'a'", "(((", "<", ">", "\x00", "\ud800", "１", "²"]
)  # fmt: skip
broken = st.lists(pieces, max_size=14).map("".join) | st.text(max_size=60)


@settings(max_examples=500)
@given(broken)
def test_no_text_raises(text):
    reading = read_completion(text, expect_map=True)
    assert (reading.map is None) == (reading.map_failure is not None)
    assert reading.format_ok == (reading.failure is None)
    read_choice(text, ["A. one", "B. two"])
    read_choice(text, None)
    value, failure = read_number(text)
    assert (value is None) == (failure is not None)


@settings(max_examples=500)
@given(st.text("0123456789.,-+eE /x_", max_size=12))
def test_no_digits_raise(text):
    value, failure = read_number(text)
    assert (value is None) == (failure is not None)


@pytest.mark.parametrize(
    "unit",
    ["<think>", "</think>", "<map>", "</map><map>", "<answer>", "<", "one ", "1,", "-",
     "(", "<think></think><answer></answer>"],
)  # fmt: skip
def test_a_megabyte_is_read_by_finding_and_counting_tags(unit):
    text = unit * (1_000_000 // len(unit))
    assert read_completion(text, expect_map=True).answer is None
    assert read_number(text) == (None, "answer_too_long")
    assert read_choice(text, ["A. one"]) is None


# ------------------------------------------------------------------ choices

OPTIONS = ["A. table", "B. chair", "C. sofa bed", "D. a"]
CHOICES = [
    ("A", "A", "the letter"), ("a", "A", "in lower case"), (" A \n", "A", "spaces"),
    ("A.", "A", "full stop"), ("A)", "A", "bracket"), ("A:", "A", "colon"),
    ("(A)", "A", "brackets"), ("(a)", "A", "lower case"), ("(A).", "A", "both"),
    ("A. table", "A", "the option in full"), ("A.table", "A", "no space"),
    ("A) table", "A", "another mark"), ("(A) table", "A", "another mark"),
    ("A: Table.", "A", "case and full stop"),
    ("table", "A", "its text"), ("Table.", "A", "case and full stop"),
    ("sofa  bed", "C", "spaces inside"), ("D", "D", "the last"),
    ("Actually", None, "not A"), ("Actually, B", None, "a sentence"),
    ("Based on the map", None, "not B"), ("B. table", None, "contradicts itself"),
    ("A. tables", None, "not the text"), ("E", None, "no such option"),
    ("E. table", None, "no such option"), ("A B", None, "two letters"),
    ("AB", None, "two letters"), ("A or B", None, "undecided"), ("(A", None, "cut off"),
    ("A table", None, "an article or a letter"), ("", None, "nothing"),
    ("The answer is A", None, "a sentence"), ("1", None, "a number"),
    ("\uff21", None, "a full-width A"), ("A\u0300", None, "an accent"),
]  # fmt: skip


@pytest.mark.parametrize("answer, letter, why", CHOICES)
def test_choices(answer, letter, why):
    assert read_choice(answer, OPTIONS) == letter, why


def test_options_may_be_bare_texts():
    assert option_texts(["left", "right"]) == {"A": "left", "B": "right"}
    assert read_choice("right", ["left", "right"]) == "B"
    assert read_choice("B. right", ["left", "right"]) == "B"


def test_printed_letters_win_over_places():
    assert option_texts(["B. left", "A. right"]) == {"B": "left", "A": "right"}
    assert read_choice("left", ["B. left", "A. right"]) == "B"


def test_a_text_that_two_options_share_chooses_none():
    assert read_choice("left", ["A. left", "B. Left", "C. back"]) is None
    assert read_choice("B", ["A. left", "B. Left", "C. back"]) == "B"


def test_without_options_only_a_letter_is_read():
    assert read_choice("(c)", None) == "C"
    assert read_choice("C. table", None) is None


# ------------------------------------------------------------------ numbers

NUMBERS = [
    ("4", 4, "digits"), ("4.", 4, "full stop"), (" 4\n", 4, "spaces"),
    ("4.5", 4.5, "decimals"), (".5", 0.5, "no leading zero"), ("0", 0, "zero"),
    ("-3", -3, "minus"), ("\u22123", -3, "a typographic minus"), ("+7", 7, "plus"),
    ("(-3)", -3, "in brackets"), ("minus 3", -3, "a spoken minus"),
    ("- 3", 3, "a bullet is no minus"), ("Total - 4", 4, "a dash is no minus"),
    ("1,200", 1200, "thousands separator"), ("12,345.67", 12345.67, "and decimals"),
    ("1e3", 1000, "exponent"), ("2.5e-1", 0.25, "negative exponent"),
    ("a total of 4", 4, "a is no number here"), ("I count 4 chairs.", 4, "a sentence"),
    ("2.5 m", 2.5, "unit"), ("250cm", 250, "unit without a space"),
    ("25 m2", 25, "the 2 of a unit"), ("25 m^2", 25, "the 2 of a unit"),
    ("25 m²", 25, "the ² of a unit"), ("50%", 50, "per cent"), ("$5", 5, "money"),
    ("room4 has 3", 3, "a number in a name"), ("4, so 4", 4, "twice the same"),
    ("four (4)", 4, "twice the same, spoken and written"),
    ("zero", 0, "a word"), ("Four", 4, "a word"), ("twenty one", 21, "two words"),
    ("twenty-one", 21, "hyphen"), ("minus three", -3, "a spoken minus"),
    ("a hundred", 100, "a as one"), ("one hundred and five", 105, "and inside"),
    ("twelve hundred", 1200, "hundreds beyond ten"),
    ("two thousand five hundred", 2500, "thousands"),
    ("a thousand and one", 1001, "thousands and"),
    ("one hundred twenty-one thousand two hundred three", 121203, "all together"),
    ("someone saw four", 4, "one inside a word is none"),
]  # fmt: skip


@pytest.mark.parametrize("text, value, why", NUMBERS)
def test_numbers(text, value, why):
    assert read_number(text) == (value, None), why


NO_NUMBERS = [
    ("", "no_number", "nothing"), ("many", "no_number", "vague"),
    ("nan", "no_number", "not a number"), ("inf", "no_number", "infinity"),
    ("A4", "no_number", "a name"), ("...", "no_number", "dots"),
    ("\u0663", "no_number", "digits of other scripts"),
    ("½", "no_number", "a fraction"),
    ("4 or 5", "ambiguous_number", "two numbers"),
    ("three and four", "ambiguous_number", "and does not join these"),
    ("one two", "ambiguous_number", "two words that are no number"),
    ("twenty twenty", "ambiguous_number", "the same"),
    ("hundred hundred", "ambiguous_number", "the same"),
    ("thousand thousand", "ambiguous_number", "the same"),
    ("twenty zero", "ambiguous_number", "the same"),
    ("2-3", "ambiguous_number", "a range"), ("2 to 3", "ambiguous_number", "a range"),
    ("5 - 5", "ambiguous_number", "a sum of equal numbers is not that number"),
    ("2+2", "ambiguous_number", "a sum"), ("1/2", "ambiguous_number", "a fraction"),
    ("3 x 3", "ambiguous_number", "an area"), ("4_4", "ambiguous_number", "underscore"),
    ("1,20", "ambiguous_number", "a decimal comma or two numbers"),
    ("1,2000", "ambiguous_number", "no thousands separator"),
    ("1 200", "ambiguous_number", "two numbers"),
    ("3.5.2", "ambiguous_number", "two points"),
    ("2 thousand", "ambiguous_number", "digits and words"),
    ("1.5 million", "ambiguous_number", "larger than what is read"),
    ("two and a half", "ambiguous_number", "fractions are not read"),
    ("five point five", "ambiguous_number", "spoken decimals are not read"),
    ("1e999", "number_out_of_range", "infinite"),
    ("9" * 400, "number_out_of_range", "infinite"),
    ("-1e10", "number_out_of_range", "beyond every question"),
    ("4" + " " * 2000, "answer_too_long", "not an answer"),
]  # fmt: skip


@pytest.mark.parametrize("text, failure, why", NO_NUMBERS)
def test_what_is_no_number(text, failure, why):
    assert read_number(text) == (None, failure), why


@given(st.integers(-999_999, 999_999))
def test_every_integer_is_read_back(number):
    assert read_number(str(number)) == (number, None)
    assert read_number(f"{number:,}") == (number, None)


ONES = ["", *"one two three four five six seven eight nine ten eleven twelve thirteen "
        "fourteen fifteen sixteen seventeen eighteen nineteen".split()]  # fmt: skip
TENS = "- - twenty thirty forty fifty sixty seventy eighty ninety".split()


def spoken(number):
    """An independent speaker of 1 to 999,999."""
    if number >= 1000:
        rest = f" {spoken(number % 1000)}" if number % 1000 else ""
        return f"{spoken(number // 1000)} thousand{rest}"
    if number >= 100:
        rest = f" and {spoken(number % 100)}" if number % 100 else ""
        return f"{ONES[number // 100]} hundred{rest}"
    if number >= 20:
        return TENS[number // 10] + (f"-{ONES[number % 10]}" if number % 10 else "")
    return ONES[number]


@given(st.integers(1, 999_999))
def test_every_spoken_number_is_read_back(number):
    assert read_number(f"about {spoken(number)} chairs") == (number, None)
