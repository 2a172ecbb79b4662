"""Relations that a prompt tells in words of its own, told once more in plain ones: to "cat, and over her a clock" is
added "The clock is above the cat.". What reads prompts (`scene.clauses`, the planner's model) knows the plain
words, and people see in the notes what was understood.
"""

from __future__ import annotations

from collections.abc import Sequence

from planner.parser import PromptParser, Span
from scene.corpus.claims import relation_claims
from scene.vocabulary import Mention, Vocabulary

SURE = 0.8  # probability from which a relation is added


def restated(text: str, vocabulary: Vocabulary, parser: PromptParser) -> tuple[str, tuple[str, ...]]:
    """A text with the relations added that only the parser reads, and a note for each.

    Args:
        text: its things are called by their names.
        vocabulary: the world's words.
        parser: reads relations.
    """
    mentions = [found for found in vocabulary.find(text.lower()) if vocabulary.kind(found.label) != "surface"]
    if len({found.label for found in mentions}) < 2:
        return text, ()
    mentions.sort(key=lambda found: found.start)
    phrases = _phrases(mentions, parser.best(text))
    told = {frozenset((claim.first, claim.second)) for claim in relation_claims(text, vocabulary)}
    added: list[str] = []
    for (i, j), (word, score) in sorted(parser.related(text, phrases).items(), key=lambda each: -each[1][1]):
        pair = frozenset((mentions[i].label, mentions[j].label))
        if score >= SURE and len(pair) == 2 and pair not in told:
            told.add(pair)
            added.append(_sentence(mentions[i].label, word, mentions[j].label, text, vocabulary))
    if not added:
        return text, ()
    end = "" if text.rstrip().endswith((".", "!", "?")) else "."
    return f"{text.rstrip()}{end} {' '.join(added)}", tuple(f"understood: {sentence}" for sentence in added)


def _phrases(mentions: Sequence[Mention], spans: Sequence[Span]) -> list[tuple[int, int]]:
    """The noun phrase of each name, as far as no other name stands in it."""
    found = []
    for mention in mentions:
        around = [span for span in spans if span.start <= mention.start and mention.end <= span.end]
        alone = [
            span for span in around if sum(span.start < other.end and other.start < span.end for other in mentions) == 1
        ]
        found.append((alone[0].start, alone[0].end) if alone else (mention.start, mention.end))
    return found


def _sentence(first: str, word: str, second: str, text: str, vocabulary: Vocabulary) -> str:
    """One relation in plain words."""
    counts = vocabulary.counts(text)
    one, other = (vocabulary.plural(label) if counts.get(label, 1) > 1 else label for label in (first, second))
    verb = "are" if counts.get(first, 1) > 1 or vocabulary.entries[first].get("plural_only") else "is"
    return f"The {one} {verb} {word} the {other}."
