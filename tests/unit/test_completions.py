"""Reading model text: every failure by name, letters and numbers by hand."""

import random
import time
import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import refused

from spacer_lib.language.choices import (
    MAX_ANSWER_CHARS,
    labelled_options,
    read_choice,
    true_letter,
)
from spacer_lib.language.numbers import NUMBER_FAILURES, read_number, unit_of
from spacer_lib.language.tags import (
    FAILURES,
    FLAGS,
    SHAPES,
    read_completion,
    write_completion,
)
from spacer_lib.maps.text import map_to_text

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
    (
        "<think>so</think><answer>B</answer><answer>B</answer>",
        "two_answers",
        None,
        "twice the same is still two",
    ),
    (
        "<think>so</think><answer>A<answer>B</answer>",
        "two_answers",
        None,
        "opened twice",
    ),
    (
        "<think>so</think><answer>A</answer>B</answer>",
        "two_answers",
        None,
        "closed twice",
    ),
    ("<think>so</think><answer> \n</answer>", "empty_answer", "", "an empty answer"),
    ("<answer>B</answer>", "no_think", "B", "no reasoning"),
    ("so</think><answer>B</answer>", "no_think", "B", "think was never opened"),
    ("<Think>so</Think><answer>B</answer>", "no_think", "B", "tags are lower case"),
    ("<think>so<answer>B</answer>", "unclosed_think", "B", "think never ends"),
    ("<think>a</think><think>b</think><answer>B</answer>", "two_thinks", "B", "two"),
    ("<think>a<think>b</think><answer>B</answer>", "two_thinks", "B", "nested"),
    ("<think>so<answer>B</answer></think>", "answer_inside_think", "B", "inside"),
    (
        "<think>so<answer>B</think></answer>",
        "answer_inside_think",
        "B</think>",
        "crossed",
    ),
    ("Well <think>so</think><answer>B</answer>", "text_outside_tags", "B", "before"),
    ("<think>so</think> so <answer>B</answer>", "text_outside_tags", "B", "between"),
    ("<think>so</think><answer>B</answer>!", "text_outside_tags", "B", "after"),
    ("<answer>B</answer><think>so</think>", "text_outside_tags", "B", "answer first"),
    (
        f"{MAP}<think>so</think><answer>B</answer>",
        "text_outside_tags",
        "B",
        "a map before think",
    ),
    (
        f"<think>so</think><answer>B</answer>{MAP}",
        "text_outside_tags",
        "B",
        "a map after the answer",
    ),
    (
        f"<think>so</think>{MAP}x{MAP}<answer>B</answer>",
        "text_outside_tags",
        "B",
        "text hidden between two maps",
    ),
]


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


THOUGHTS = [
    # think, flags, why
    ("", ("empty_think",), "nothing"),
    (" \n", ("empty_think",), "white space"),
    (MAP, ("empty_think",), "the map alone"),
    (f" {MAP} ", ("empty_think",), "the map alone"),
    ("...", ("template_think",), "no word"),
    ("so", ("template_think",), "one word"),
    (f"{MAP} so", ("template_think",), "one word beside the map"),
    ("so so so it", ("template_think",), "two different words"),
    ("so " * 10_000, ("template_think",), "one word at length"),
    ("reasoning here", ("template_think",), "a template"),
    ("[Your reasoning process here.]", ("template_think",), "a template"),
    ("write your detailed reasoning here", ("template_think",), "a template"),
    ("<reasoning>", ("template_think",), "a template"),
    ("Think step by step.", ("template_think",), "the instruction"),
    ("Let's think\nstep-by-step", ("template_think",), "the instruction"),
    ("my thinking goes here: B", ("template_think",), "a template and one word"),
    ("椅子", ("template_think",), "two letters of a script without spaces"),
    ("two steps east", (), "three words, said"),
    ("椅子在左边", (), "five letters of a script without spaces"),
    ("Think step by step: the lamp is left", (), "an instruction, then a thought"),
    ("My reasoning: the lamp is left", (), "the same"),
    ("so " * 10 + "the lamp", (), "three different words"),
]


@pytest.mark.parametrize("think, flags, why", THOUGHTS)
def test_a_think_block_that_says_nothing_is_flagged(think, flags, why):
    reading = read_completion(f"<think>{think}</think><answer>B</answer>")
    assert reading.flags == flags, why
    assert reading.format_ok  # flagged, and left to whoever reads the flags


def test_no_think_has_no_flags():
    assert read_completion("<answer>B</answer>").flags == ()


SHAPED = [
    # shape, text, failure, answer, why
    ("observe", "<observe>so</observe><answer>B</answer>", None, "B", "its own tag"),
    ("observe", "<think>so</think><answer>B</answer>", "no_think", "B", "think's tag"),
    ("observe", "<observe>so<answer>B</answer>", "unclosed_think", "B", "never ends"),
    (
        "observe",
        "<observe>a</observe>" * 2 + "<answer>B</answer>",
        "two_thinks",
        "B",
        "two",
    ),
    ("think", "<observe>so</observe><answer>B</answer>", "no_think", "B", "another's"),
    ("vanilla", "B", None, "B", "bare"),
    ("vanilla", " 4 chairs\n", None, "4 chairs", "bare"),
    ("vanilla", "a < b", None, "a < b", "other brackets are text"),
    ("vanilla", "<answer>B</answer>", None, "B", "in its tag"),
    ("vanilla", "", "empty_answer", "", "nothing"),
    (
        "vanilla",
        "<think>so</think><answer>B</answer>",
        "text_outside_tags",
        "B",
        "vanilla asks for no thought",
    ),
    ("vanilla", "<think>so</think>B", "no_answer_tag", None, "where the answer starts"),
    ("vanilla", "<answer>B", "unclosed_answer", None, "cut off"),
    ("vanilla", "B</answer>", "no_answer_tag", None, "only its end"),
]


@pytest.mark.parametrize("shape, text, failure, answer, why", SHAPED)
def test_shapes(shape, text, failure, answer, why):
    reading = read_completion(text, shape=shape)
    assert (reading.failure, reading.answer) == (failure, answer), why


def test_an_unknown_shape_raises():
    with refused("language.unknown-shape", says="think, observe, vanilla"):
        read_completion("B", shape="direct")


def test_every_name_is_reached_and_named_once():
    assert {failure for _, failure, *_ in FORMATS} == {None, *FAILURES}
    assert {flag for _, flags, _ in THOUGHTS for flag in flags} == set(FLAGS)
    reached = {failure for _, failure, _ in NO_NUMBERS}
    reached |= {failure for *_, failure in UNITS}
    assert reached == {None, *NUMBER_FAILURES}


cells = st.dictionaries(
    st.sampled_from(["chair", "lamp"]),
    st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), min_size=1, max_size=4),
)
words = st.text("abc 123.,", max_size=20)


@given(cells, words, words.filter(str.strip))
def test_what_is_written_is_read(drawn, thought, answer):
    block = f"<map>{map_to_text(drawn)}</map>"
    inside = write_completion(answer, thought, drawn)
    between = f"<think>{thought}</think>{block}<answer>{answer}</answer>"
    for text in (inside, between):
        reading = read_completion(text, expect_map=True)
        assert reading.format_ok and reading.map_failure is None
        assert (reading.map, reading.answer) == (drawn, answer.strip())


pieces = st.sampled_from(
    [
        "<think>",
        "</think>",
        "<map>",
        "</map>",
        "<answer>",
        "</answer>",
        " ",
        "so",
        "4",
        '{"a":[[1,2]]}',
        "{'a'",
        "(((",
        "<",
        ">",
        "\x00",
        "\ud800",
        "１",
        "²",
    ]
)
broken = st.lists(pieces, max_size=14).map("".join) | st.text(max_size=60)


@settings(max_examples=500)
@given(broken)
def test_no_text_raises(text):
    reading = read_completion(text, expect_map=True)
    assert (reading.map is None) == (reading.map_failure is not None)
    assert reading.format_ok == (reading.failure is None)
    assert set(reading.flags) <= set(FLAGS)
    assert reading.failure is None or reading.failure in FAILURES
    read_choice(text, ["A. one", "B. two"])
    read_choice(text, None)
    for unit in (None, "m"):
        value, failure = read_number(text, unit)
        assert (value is None) == (failure in NUMBER_FAILURES)
    unit_of(text)


@settings(max_examples=500)
@given(st.text("0123456789.,-+eE /x_ cm²½(", max_size=12))
def test_no_digits_raise(text):
    for unit in (None, "m"):
        value, failure = read_number(text, unit)
        assert (value is None) == (failure in NUMBER_FAILURES)


def read_all(text):
    """Every reader on a text."""
    for shape in SHAPES:
        read_completion(text, expect_map=True, shape=shape)
    read_number(text, "m2")
    read_choice(text, ["A. one", "B. two"])


BURSTS = (
    "<think> </think> <map> </map> <answer> </answer> <observe> < <a { [ ( ] } : , . "
    "- + / 7 1,200 1e9 1/2 ½ one hundred and m cm sq. in (in B B. ² \ud800 \u0663 \0 "
    "{'a': think a:[[1,2]]"
).split() + [" ", "\n", "one ", "1 ", "1 (", "m2 "]


def fuzzed(rng):
    """Up to fifteen pieces, each once or in a burst; every other text with its tags."""
    text = "".join(
        rng.choice(BURSTS) * rng.choice((1, 1, 1, 2, 9, 100, 2_000))
        for _ in range(rng.randrange(16))
    )
    if rng.random() < 0.5:
        return text
    return f"<think>{text[:-20]}</think><answer>{text[-20:]}</answer>"


def test_ten_thousand_fuzzed_texts_are_read_at_once():
    """None raises, none takes 50 ms, and nothing is kept of them."""
    rng = random.Random(0)
    slowest, kept = 0.0, 0
    for _ in range(10_000):
        text = fuzzed(rng)
        start = time.process_time()
        read_all(text)
        slowest = max(slowest, time.process_time() - start)
    assert slowest < 0.05
    tracemalloc.start()
    for i in range(200):
        read_all(fuzzed(rng))
        if i == 99:  # what is built once has been built
            kept, _ = tracemalloc.get_traced_memory()
    grown = tracemalloc.get_traced_memory()[0] - kept
    tracemalloc.stop()
    assert grown < 50_000


@pytest.mark.parametrize(
    "unit",
    [
        "<think>",
        "</think>",
        "<map>",
        "</map><map>",
        "<answer>",
        "<",
        "one ",
        "1,",
        "-",
        "(",
        "7",
        "<think></think><answer></answer>",
        "<think><answer>",
    ],
)
@pytest.mark.parametrize("around", ["{}", "<think>{}</think><answer>{}</answer>"])
def test_a_megabyte_is_read_in_linear_time_and_memory(unit, around):
    text = around.format(*[unit * (1_000_000 // len(unit))] * around.count("{"))
    start = time.process_time()
    read_all(text)
    assert time.process_time() - start < 1  # 0.02 s measured; quadratic takes hours
    tracemalloc.start()
    read_completion(text, expect_map=True)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 5 * len(text)
    assert read_number(text) == (None, "answer_too_long")
    assert read_choice(text, ["A. one"]) is None


@pytest.mark.parametrize("piece", BURSTS)
def test_the_longest_answer_is_read_at_once(piece):
    answer = (piece * 2_000)[:2_000]
    start = time.process_time()
    read_all(answer)
    assert time.process_time() - start < 0.05


@pytest.mark.parametrize("size", [100, 1_000, 100_000])
def test_nested_blocks_are_read_at_any_depth(size):
    nested = "<think>" * size + "</think>" * size + "<answer>B</answer>"
    assert read_completion(nested).failure == "two_thinks"
    brackets = f"<think><map>{'[' * size}{']' * size}</map></think><answer>B</answer>"
    assert read_completion(brackets).map_failure in ("map_unreadable", "map_too_long")


# ------------------------------------------------------------------ choices

OPTIONS = ["A. table", "B. chair", "C. sofa bed", "D. a"]
CHOICES = [
    ("A", "A", "the letter"),
    ("a", "A", "in lower case"),
    (" A \n", "A", "spaces"),
    ("A.", "A", "full stop"),
    ("A)", "A", "bracket"),
    ("A:", "A", "colon"),
    ("(A)", "A", "brackets"),
    ("(a)", "A", "lower case"),
    ("(A).", "A", "both"),
    ("A. table", "A", "the option in full"),
    ("A.table", "A", "no space"),
    ("A) table", "A", "another mark"),
    ("(A) table", "A", "another mark"),
    ("A: Table.", "A", "case and full stop"),
    ("table", "A", "its text"),
    ("Table.", "A", "case and full stop"),
    ("sofa  bed", "C", "spaces inside"),
    ("D", "D", "the last"),
    ("Actually", None, "not A"),
    ("Actually, B", None, "a sentence"),
    ("Based on the map", None, "not B"),
    ("B. table", None, "contradicts itself"),
    ("A. tables", None, "not the text"),
    ("E", None, "no such option"),
    ("E. table", None, "no such option"),
    ("A B", None, "two letters"),
    ("AB", None, "two letters"),
    ("A or B", None, "undecided"),
    ("(A", None, "cut off"),
    ("A table", None, "an article or a letter"),
    ("", None, "nothing"),
    ("The answer is A", None, "a sentence"),
    ("1", None, "a number"),
    ("\uff21", None, "a full-width A"),
    ("A\u0300", None, "an accent"),
]


@pytest.mark.parametrize("answer, letter, why", CHOICES)
def test_choices(answer, letter, why):
    assert read_choice(answer, OPTIONS) == letter, why


def test_options_may_be_bare_texts():
    assert labelled_options(["left", "right"]) == {"A": "left", "B": "right"}
    assert read_choice("right", ["left", "right"]) == "B"
    assert read_choice("B. right", ["left", "right"]) == "B"


def test_printed_letters_win_over_places():
    assert labelled_options(["B. left", "A. right"]) == {"B": "left", "A": "right"}
    assert read_choice("left", ["B. left", "A. right"]) == "B"


def test_a_text_that_two_options_share_chooses_none():
    assert read_choice("left", ["A. left", "B. Left", "C. back"]) is None
    assert read_choice("B", ["A. left", "B. Left", "C. back"]) == "B"


def test_without_options_only_a_letter_is_read():
    assert read_choice("(c)", None) == "C"
    assert read_choice("C. table", None) is None


TRUTHS = [
    # truth, options, letter, why
    ("B", ["A. cat", "B. dog"], "B", "a letter"),
    ("(b).", ["A. cat", "B. dog"], "B", "a letter, in another form"),
    ("(B) dog", ["(A) cat", "(B) dog"], "B", "an option in full"),
    ("B: Dog.", ["A) cat", "B) dog"], "B", "in full, with another mark"),
    (" Dog. ", ["A. cat", "B. dog"], "B", "one option's text"),
    ("B", ["B. cat", "A. dog"], "B", "a printed letter, not a place"),
    ("B", ["cat", "dog"], "B", "a place"),
    ("B", ["A. cat", "A. dog"], "B", "a place: no printed letter says otherwise"),
    ("A", ["A. B", "B. A"], "A", "a letter before a text"),
    ("C", ["A. 3", "B. 3", "C. 3"], "C", "a letter tells equal texts apart"),
    ("B. z", ["A. x", "A. y", "B. z"], "C", "in full, where letters repeat"),
    ("B", ["A. x", "A. y", "B. z"], None, "a place or a printed letter"),
    ("A", ["A. x", "A. y", "B. z"], None, "two printed letters"),
    ("3", ["A. 3", "B. 3"], None, "two texts"),
    ("A. cat", ["A. cat", "B. A. cat"], None, "in full, or the other's text"),
    ("A. dog", ["A. cat", "B. dog"], None, "contradicts itself"),
    ("D", ["A. cat", "B. dog"], None, "no such option"),
    ("Actually B", ["A. cat", "B. dog"], None, "a sentence"),
    ("", ["A. cat", "B. dog"], None, "nothing"),
    ("B" + " " * MAX_ANSWER_CHARS, ["A. cat", "B. dog"], None, "too long"),
]


@pytest.mark.parametrize("truth, options, letter, why", TRUTHS)
def test_the_letter_of_a_truth(truth, options, letter, why):
    assert true_letter(truth, options) == letter, why


@given(
    st.text("ABab.() xy", max_size=6),
    st.lists(st.text("AB. xy", min_size=1, max_size=4), max_size=4),
)
def test_a_true_letter_is_the_one_that_an_answer_chooses(truth, options):
    letter = true_letter(truth, options)
    assert letter is None or read_choice(truth, options) == letter


# ------------------------------------------------------------------ numbers

NUMBERS = [
    ("4", 4, "digits"),
    ("4.", 4, "full stop"),
    (" 4\n", 4, "spaces"),
    ("4.5", 4.5, "decimals"),
    (".5", 0.5, "no leading zero"),
    ("0", 0, "zero"),
    ("-3", -3, "minus"),
    ("\u22123", -3, "a typographic minus"),
    ("+7", 7, "plus"),
    ("(-3)", -3, "in brackets"),
    ("minus 3", -3, "a spoken minus"),
    ("- 3", 3, "a bullet, not a minus"),
    ("Total - 4", 4, "a dash, not a minus"),
    ("1,200", 1200, "thousands separator"),
    ("12,345.67", 12345.67, "and decimals"),
    ("1e3", 1000, "exponent"),
    ("2.5e-1", 0.25, "negative exponent"),
    ("a total of 4", 4, "an article, not a number"),
    ("I count 4 chairs.", 4, "a sentence"),
    ("2.5 m", 2.5, "unit"),
    ("250cm", 250, "unit without a space"),
    ("25 m2", 25, "the 2 of a unit"),
    ("25 m^2", 25, "the 2 of a unit"),
    ("25 m²", 25, "the ² of a unit"),
    ("50%", 50, "per cent"),
    ("$5", 5, "money"),
    ("room4 has 3", 3, "a number in a name"),
    ("4, so 4", 4, "twice the same"),
    ("four (4)", 4, "twice the same, spoken and written"),
    ("zero", 0, "a word"),
    ("Four", 4, "a word"),
    ("twenty one", 21, "two words"),
    ("twenty-one", 21, "hyphen"),
    ("minus three", -3, "a spoken minus"),
    ("a hundred", 100, "a as one"),
    ("one hundred and five", 105, "and inside"),
    ("twelve hundred", 1200, "hundreds beyond ten"),
    ("two thousand five hundred", 2500, "thousands"),
    ("a thousand and one", 1001, "thousands and"),
    ("one hundred twenty-one thousand two hundred three", 121203, "all together"),
    ("someone saw four", 4, "one inside a word is none"),
    ("1/2", 0.5, "a fraction"),
    ("½", 0.5, "one character"),
    ("-1/2", -0.5, "minus"),
    ("3/4.", 0.75, "and a full stop"),
    ("7/2", 3.5, "improper"),
    ("0/4", 0, "zero"),
    ("1\u20442", 0.5, "the fraction slash"),
    ("1/100", 0.01, "the last denominator"),
    ("2 1/2", 2.5, "mixed"),
    ("2½", 2.5, "mixed"),
    ("2 ½", 2.5, "mixed"),
    ("-2 1/2", -2.5, "the sign is the whole's"),
    ("about 1/2 m", 0.5, "and a unit"),
    ("1/3", 1 / 3, "not a decimal"),
    ("1/2 (0.5)", 0.5, "twice the same"),
]


@pytest.mark.parametrize("text, value, why", NUMBERS)
def test_numbers(text, value, why):
    assert read_number(text) == (value, None), why


NO_NUMBERS = [
    ("", "no_number", "nothing"),
    ("many", "no_number", "vague"),
    ("nan", "no_number", "not a number"),
    ("inf", "no_number", "infinity"),
    ("A4", "no_number", "a name"),
    ("...", "no_number", "dots"),
    ("\u0663", "no_number", "digits of other scripts"),
    ("4 or 5", "ambiguous_number", "two numbers"),
    ("three and four", "ambiguous_number", "and does not join these"),
    ("one two", "ambiguous_number", "two words that do not join"),
    ("twenty twenty", "ambiguous_number", "the same"),
    ("hundred hundred", "ambiguous_number", "the same"),
    ("thousand thousand", "ambiguous_number", "the same"),
    ("twenty zero", "ambiguous_number", "the same"),
    ("2-3", "ambiguous_number", "a range"),
    ("2 to 3", "ambiguous_number", "a range"),
    ("5 - 5", "ambiguous_number", "a sum of equal numbers is not that number"),
    ("2+2", "ambiguous_number", "a sum"),
    ("1/2/3", "ambiguous_number", "a date"),
    ("3/4/2020", "ambiguous_number", "a date"),
    ("3/1", "ambiguous_number", "a ratio"),
    ("1/200", "ambiguous_number", "a denominator beyond 100"),
    ("1/0", "ambiguous_number", "no fraction"),
    ("1 / 2", "ambiguous_number", "a division"),
    ("2 3/2", "ambiguous_number", "an improper fraction beside a whole number"),
    ("2-1/2", "ambiguous_number", "a mixed number or a difference"),
    ("1.5/2", "ambiguous_number", "a division"),
    ("1/2.5", "ambiguous_number", "a division"),
    ("1/2e5", "ambiguous_number", "a division"),
    ("1/2, 3/4", "ambiguous_number", "two fractions"),
    ("1 2 1/2", "ambiguous_number", "two numbers"),
    ("1/2 + 1", "ambiguous_number", "a sum"),
    ("a half", "ambiguous_number", "a word"),
    ("3²", "ambiguous_number", "a power"),
    ("10⁹", "ambiguous_number", "a power"),
    ("5m x 5m", "ambiguous_number", "an area"),
    ("2 ft + 2 ft", "ambiguous_number", "a sum"),
    ("3 x 3", "ambiguous_number", "an area"),
    ("4_4", "ambiguous_number", "underscore"),
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
]


@pytest.mark.parametrize("text, failure, why", NO_NUMBERS)
def test_what_is_no_number(text, failure, why):
    assert read_number(text) == (None, failure), why


@given(st.integers(0, 99), st.integers(1, 99), st.integers(2, 100))
def test_every_fraction_is_read_back(whole, top, bottom):
    assert read_number(f"{top}/{bottom}") == (top / bottom, None)
    if top < bottom:
        assert read_number(f"{whole} {top}/{bottom}") == (whole + top / bottom, None)


UNITS = [
    # text, asked unit, value, failure
    ("2.5 m", "m", 2.5, None),
    ("2.5", "m", 2.5, None),
    ("250 cm", "m", 2.5, None),
    ("2.5 m", "cm", 250, None),
    ("2,500 mm", "m", 2.5, None),
    ("2 km", "m", 2000, None),
    ("3 ft", "m", 0.9144, None),
    ("3 feet", "m", 0.9144, None),
    ("1 foot", "cm", 30.48, None),
    ("10 in", "cm", 25.4, None),
    ("10 in.", "cm", 25.4, None),
    ("10 inches", "cm", 25.4, None),
    ("1 yard", "m", 0.9144, None),
    ("254 cm", "in", 100, None),
    ("3 in total", "m", 3, None),
    ("3 in meters", "m", 3, None),
    ("300 in centimeters", "m", 3, None),
    ("250 CM", "m", 2.5, None),
    ("250-cm", "m", 2.5, None),
    ("250 (cm)", "m", 2.5, None),
    ("-50 cm", "m", -0.5, None),
    ("two hundred centimetres", "m", 2, None),
    ("1/2 km", "m", 500, None),
    ("2.5 m (250 cm)", "m", 2.5, None),
    ("250 cm = 2.5 m", "m", 2.5, None),
    ("2.5 m or 2.6 m", "m", None, "ambiguous_number"),
    ("2 m 50 cm", "m", None, "ambiguous_number"),
    ("2.5 m (8 ft)", "m", None, "ambiguous_number"),  # 2.4384 m: not the same
    ("25 m2", "m2", 25, None),
    ("25 m²", "m2", 25, None),
    ("25 m^2", "m2", 25, None),
    ("25 sq m", "m2", 25, None),
    ("25 sq. m", "m2", 25, None),
    ("25sqm", "m2", 25, None),
    ("25 square metres", "m2", 25, None),
    ("25 metres squared", "m2", 25, None),
    ("100 sq ft", "m2", 9.290304, None),
    ("50000 cm2", "m2", 5, None),
    ("8 m³", "m3", 8, None),
    ("8 cubic meters", "m3", 8, None),
    ("25 m", "m2", None, "wrong_unit"),
    ("25 m2", "m", None, "wrong_unit"),
    ("25 cm", "m2", None, "wrong_unit"),
    ("8 m3", "m2", None, "wrong_unit"),
    ("3 m x 4 m", "m2", None, "ambiguous_number"),
    ("25 m or 25 m2", "m2", None, "ambiguous_number"),
    ("25 m or 26 m", "m2", None, "ambiguous_number"),
    ("4 chairs", "m", 4, None),
    ("4 kg", "m", 4, None),
    ("4 metric", "m", 4, None),
    ("4 mice", "m", 4, None),
    ("4 inside", "m", 4, None),
    ("4 m_2", "m", 4, None),
    ("1e9 km", "m", None, "number_out_of_range"),
    ("many m", "m", None, "no_number"),
]


@pytest.mark.parametrize("text, unit, value, failure", UNITS)
def test_units_are_converted_to_the_one_asked_for(text, unit, value, failure):
    assert read_number(text, unit) == (value, failure)


@pytest.mark.parametrize("text", ["2.5 m", "2.5 cm", "2.5 m2", "2.5 feet", "2.5 in"])
def test_without_a_unit_asked_for_none_is_looked_at(text):
    assert read_number(text) == (2.5, None)


def test_an_asked_unit_may_be_spelt_in_any_way():
    for unit in ("m2", "m²", "sqm", "square meters"):
        assert read_number("50000 cm2", unit) == (5, None)


@pytest.mark.parametrize("unit", ["", "kg", "chairs", "m m", "meters of"])
def test_an_unknown_unit_asked_for_raises(unit):
    with refused("language.unknown-unit", says=repr(unit)):
        read_number("4", unit)


QUESTIONS = [
    ("what is the distance between the sofa and the tv (in meters)?", "m"),
    ("What is the longest dimension of the tv, measured in centimeters?", "cm"),
    ("What is the size of this room (in square meters)? If multiple", "m2"),
    ("How far is the lamp in metres?", "m"),
    ("How high is it, in feet?", "ft"),
    ("How wide is the door (cm)?", "cm"),
    ("The area (m²) is:", "m2"),
    ("How long is it in inches?", "in"),
    ("How large is it in sq. ft?", "ft2"),
    ("What volume, in cubic meters, has it?", "m3"),
    ("How many chairs are in this room?", None),
    ("", None),
    ("How many meters away is it?", None),
    ("in meters or in feet?", None),
    ("Answer in meters. How many meters (in meters)?", "m"),
    ("How many feet are in miniature?", None),
]


@pytest.mark.parametrize("question, unit", QUESTIONS)
def test_the_unit_a_question_names(question, unit):
    assert unit_of(question) == unit
    if unit is not None:
        assert read_number("4", unit) == (4, None)


@given(st.integers(-999_999, 999_999))
def test_every_integer_is_read_back(number):
    assert read_number(str(number)) == (number, None)
    assert read_number(f"{number:,}") == (number, None)


ONES = [
    "",
    *"one two three four five six seven eight nine ten eleven twelve thirteen "
    "fourteen fifteen sixteen seventeen eighteen nineteen".split(),
]
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
