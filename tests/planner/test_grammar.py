import pytest
from hypothesis import given
from hypothesis import strategies as st

from planner.grammar import (
    STOP,
    Answer,
    AnswerAutomaton,
    AnswerTokens,
    box_to_cells,
    cells_to_box,
    parse_answer,
)
from scene.errors import ModelError
from scene.geometry import Box, Size
from tests.planner.conftest import make_tokenizer

LABELS = ("sky", "boy", "apple tree")
TOKENIZER = make_tokenizer()
TOKENS = AnswerTokens(TOKENIZER, LABELS)
SIZES = st.sampled_from([Size(640, 512), Size(256, 256), Size(1024, 272)])
WORDS = st.from_regex(r"[A-Za-z][A-Za-z'-]{0,6}( [A-Za-z][A-Za-z]{0,5}){0,3}", fullmatch=True)


@st.composite
def cells(draw: st.DrawFn) -> tuple[int, int, int, int]:
    x0, y0 = draw(st.integers(0, 99)), draw(st.integers(0, 99))
    return x0, y0, draw(st.integers(x0, 99)), draw(st.integers(y0, 99))


@given(st.sampled_from(LABELS), cells(), st.none() | WORDS)
def test_parser_reads_back_what_answers_write(label, box, description):
    answer = Answer(label=label, cells=box, description=description)
    assert parse_answer(answer.line(), LABELS) == answer


def test_stop_round_trip():
    assert parse_answer(STOP, LABELS) == Answer(stop=True)
    assert Answer(stop=True).line() == STOP


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "parts"),
        ("boy", "parts"),
        ("boy | 1240308", "eight digits"),
        ("boy | 124030888", "eight digits"),
        ("boy | 12 40 30 88", "eight digits"),
        ("boy | ١٢٤٠٣٠٨٨", "eight digits"),
        ("boy | 40123088", "not ordered"),
        ("boy | 12883040", "not ordered"),
        ("submarine | 12403088", "no category"),
        ("Boy | 12403088", "no category"),
        (" boy | 12403088", "no category"),
        ("boy | 12403088 | a boy | more", "parts"),
        ("boy | 12403088 | ", "plain words"),
        ("boy | 12403088 | a boy with 2 balls", "plain words"),
        ("boy|12403088", "parts"),
        ("stop | 12403088", "no category"),
        ("STOP", "parts"),
    ],
)
def test_parser_refuses(text, reason):
    with pytest.raises(ModelError, match=reason):
        parse_answer(text, LABELS)


@given(st.text(max_size=40))
def test_parser_accepts_nothing_but_the_grammar(text):
    try:
        answer = parse_answer(text, LABELS)
    except ModelError:
        return
    assert answer.line() == text


@given(SIZES, st.integers(-200, 1100), st.integers(-200, 1100), st.integers(1, 900), st.integers(1, 900))
def test_cells_cover_the_box_tightly(size, x, y, width, height):
    box = Box(x, y, x + width, y + height)
    clipped = box.clip(size)
    found = box_to_cells(box, size)
    if clipped.area == 0:
        assert found is None
        return
    back = cells_to_box(found, size)
    assert back.intersection(clipped) == clipped
    assert back.clip(size) == back
    slack_x, slack_y = size.width / 100 + 1, size.height / 100 + 1
    assert clipped.x0 - back.x0 <= slack_x
    assert back.x1 - clipped.x1 <= slack_x
    assert clipped.y0 - back.y0 <= slack_y
    assert back.y1 - clipped.y1 <= slack_y


@given(SIZES, cells())
def test_cells_survive_pixels(size, box):
    """Back from pixels, at most the neighbouring per cent is added (rounding outwards twice)."""
    again = box_to_cells(cells_to_box(box, size), size)
    assert all(abs(a - b) <= 1 for a, b in zip(again, box, strict=True))


@given(st.randoms(use_true_random=False), st.sets(st.sampled_from(LABELS)), st.booleans())
def test_any_walk_through_the_automaton_parses(rng, labels, allow_stop):
    if not labels and not allow_stop:
        with pytest.raises(ModelError, match="no label"):
            AnswerAutomaton(TOKENS, labels, allow_stop)
        return
    automaton = AnswerAutomaton(TOKENS, sorted(labels), allow_stop, max_description_tokens=12)
    while not automaton.done:
        allowed = automaton.allowed()
        assert len(set(allowed)) == len(allowed) > 0
        automaton.advance(rng.choice(allowed))
    text = TOKENIZER.decode(automaton.ids, skip_special_tokens=False)
    assert text.endswith("\n")
    answer = parse_answer(text[:-1], labels)
    assert answer.stop <= allow_stop
    assert automaton.label == (None if answer.stop else answer.label)


@given(st.sampled_from(LABELS), cells(), WORDS | st.none())
def test_automaton_allows_every_answer(label, box, description):
    line = Answer(label=label, cells=box, description=description).line() + "\n"
    automaton = AnswerAutomaton(TOKENS, LABELS, True, max_description_tokens=100)
    for token in TOKENIZER.encode(line).ids:
        automaton.advance(token)
    assert automaton.done
    assert automaton.label == label


def test_labels_with_a_fixed_description_are_not_described_and_all_others_are():
    for label, following in (("boy", TOKENS.separator), ("sky", TOKENS.end)):
        automaton = AnswerAutomaton(TOKENS, LABELS, False, plain={"sky"})
        for token in TOKENIZER.encode(f"{label} | 12403088").ids:
            automaton.advance(token)
        assert automaton.allowed() == (following,)
        automaton.opening = TOKENS.encode(" a red", " |")
        assert automaton.allowed() == (TOKENS.separator,)


def test_automaton_refuses_a_forbidden_token():
    automaton = AnswerAutomaton(TOKENS, ["boy"], False)
    with pytest.raises(ValueError, match="not allowed"):
        automaton.advance(TOKENS.stop[0])


def test_other_tokenizers_are_refused():
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    alphabet = {token: index for index, token in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    alphabet |= {"12": len(alphabet), "Ġ|": len(alphabet) + 1}
    merging = Tokenizer(models.BPE(vocab=alphabet, merges=[("1", "2"), ("Ġ", "|")]))
    merging.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    merging.decoder = decoders.ByteLevel()
    with pytest.raises(ValueError, match="digits"):
        AnswerTokens(merging, LABELS)
