"""Guesses of how an answer goes on, read in one pass with what is certain.

Reading ten tokens costs less than reading two one by one: every weight has to come from memory for a pass. So the words
that a label usually gets are fed along with the last chosen token. Each is still chosen as without a guess, from the
same state and in the same order; where the choice is another one, what follows of the guess was read in vain and is
dropped. What is proposed does not depend on guesses, but for the last bits of a pass over several tokens.

Source: speculative decoding (Leviathan et al., arXiv 2211.17192) with a table for a drafting model.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from planner.grammar import SEPARATOR, AnswerAutomaton, AnswerTokens, Link
from scene.vocabulary import Vocabulary

MOST = 24  # tokens of a guess


@dataclass(frozen=True)
class Expected:
    """What is likely in a scene.

    Attributes:
        labels: likely labels, likeliest first; others follow in the world's order.
        links: label -> relations that it is likely to be placed by.
        colours: label -> colours that the prompt gives it.
    """

    labels: Sequence[str] = ()
    links: Mapping[str, Sequence[Link]] = field(default_factory=dict)
    colours: Mapping[str, Sequence[str]] = field(default_factory=dict)


class Drafts:
    """Guesses answers.

    Args:
        tokens: the grammar's pieces.
        vocabulary: the world's words.
        usual: label -> its descriptions, the commonest first; a label without is guessed to be just that ("a sofa").
    """

    def __init__(self, tokens: AnswerTokens, vocabulary: Vocabulary, usual: Mapping[str, Sequence[str]]) -> None:
        self._tokens, self._vocabulary, self._usual = tokens, vocabulary, usual
        self._encoded: dict[str, tuple[int, ...]] = {}

    def after(self, automaton: AnswerAutomaton, expected: Expected) -> tuple[int, ...]:
        """Tokens that are likely to follow what an automaton has; none where there is no telling.

        Args:
            automaton: stays as it is.
            expected: what is likely here.
        """
        ahead, draft, read = automaton.copy(), list[int](), 0
        while not ahead.done and len(draft) < MOST:
            allowed = ahead.allowed()
            token: int | None = allowed[0]
            if len(allowed) > 1:  # what was written so far has to be read to choose here
                token, read = self._guess(ahead, expected), len(draft)
            if token is None or not ahead.allows(token):
                break
            ahead.advance(token)
            draft.append(token)
        return tuple(draft[:read])

    def _guess(self, automaton: AnswerAutomaton, expected: Expected) -> int | None:
        """The next token; None = no telling."""
        label, tokens = automaton.label, self._tokens
        if label is None:
            return _following([tokens.label_paths[name] for name in (*expected.labels, *tokens.labels)], automaton.ids)
        if automaton.link_ids is not None:
            due = expected.links.get(label, ())
            if not (due or automaton.link_ids):  # small models find one for nearly everything, nobody knows which
                return None if automaton.link_paths else automaton.opens
            paths = [tokens.link_paths[link] for link in due]
            return _following([*paths, *reversed(automaton.link_paths)], automaton.link_ids)
        described = automaton.description_ids
        if described is None:  # a digit of a box
            return None
        likely = _following([self._words(text) for text in self._likely(label, expected)], described)
        return self._name(label, described) if likely is None else likely

    def _likely(self, label: str, expected: Expected) -> list[str]:
        """Descriptions of a label, those of the prompt's colours first."""
        colours = set(expected.colours.get(label, ()))
        usual = sorted(self._usual.get(label, ()), key=lambda text: colours.isdisjoint(text.split()))
        return [*usual, self._vocabulary.with_article(label)]

    def _name(self, label: str, described: list[int]) -> int | None:
        """The label's own name after words that no usual description begins with ("a pink" ... "sofa"), then the end;
        None within what follows the name."""
        *name, end = self._words(label)
        if described[-len(name) :] == name:
            return end
        begun = next((count for count in range(len(name) - 1, 0, -1) if described[-count:] == name[:count]), 0)
        said = any(described[at : at + len(name)] == name for at in range(len(described)))
        return None if said else name[begun]

    def _words(self, text: str) -> tuple[int, ...]:
        """Tokens of a description, its end included."""
        if text not in self._encoded:
            self._encoded[text] = (*self._tokens.encode(f" {text}", SEPARATOR), self._tokens.end)
        return self._encoded[text]


def _following(paths: Sequence[Sequence[int]], written: Sequence[int]) -> int | None:
    """What comes next on the first path that begins so."""
    count = len(written)
    return next((path[count] for path in paths if len(path) > count and list(path[:count]) == list(written)), None)
