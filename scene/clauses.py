"""Which stands how to which, read off a prompt: a small grammar of clauses over the names that `Vocabulary.find`
found.

A text is cut into tokens (names, relation phrases, pronouns, sides, "and", "with", stops; all other words are filler)
and walked once. The walker knows what is being placed (`subject`, a list joined by commas and "and"), what was placed
or named before (`earlier`: what "it" may mean) and the last object of a relation.

    a mug and a fork lie on the table      list, verb, relation, object: both are on it
    on the table stands a lamp             relation first: the name after the object is placed
    a sofa with a lamp beside it           "it" = what the "with" belongs to
    sofa left, tv right                    two sides make a pair
    a lamp between A and B, A and B side by side, a sofa flanked by lamps      next to
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from scene.clause_words import (
    ALONE,
    BEHIND,
    CARRIERS,
    ELSEWISE,
    FLAT,
    HOLDERS,
    LIVING,
    NO_INSIDE,
    PORTABLE,
    Side,
    Stands,
    Token,
    is_phrase,
    pairs_of_sides,
    relation_of,
    tokens,
)
from scene.reading import Mention
from scene.relations import Relation

_SEVERAL = ("them", "they")


@dataclass
class Walker:
    """Reads one text.

    Args:
        text: in lower case.
        named: what `Vocabulary.find` found in it.
        kind: label -> kind of thing.
    """

    text: str
    named: Sequence[Mention]
    kind: Callable[[str], str]
    subject: list[Mention] = field(default_factory=list)
    earlier: list[Mention] = field(default_factory=list)
    object: Mention | None = None
    sides: list[Side] = field(default_factory=list)
    found: list[Stands] = field(default_factory=list)
    belongs: bool = False  # the subject came with a "with": what "it" means is what the "with" belongs to
    belongs_to_earlier: bool = False  # the same of the subject that stands
    settled: bool = False  # the subject stands; the next name begins a new one
    verb: bool = False  # a verb came after the subject
    due: tuple[Relation, list[Mention]] | None = None  # side or relation that the next name takes: "on the left a sofa"

    def walk(self) -> list[Stands]:
        """All relations, in the order of the text."""
        self.tokens = tokens(self.text, self.named)
        i = 0
        while i < len(self.tokens):
            i = self._step(i)
        return [*self.found, *pairs_of_sides(self.sides)]

    def _step(self, i: int) -> int:
        """Reads the token at `i` (and what belongs to it); returns the next one's index."""
        token = self.tokens[i]
        if token.kind == "name" and token.mention:
            self._name(i, token.mention)
        elif token.kind in ("relation", "between", "flanked", "bearing", "containing", "passive"):
            return self._relation(i)
        elif token.kind == "side":
            return self._side(i)
        elif token.kind == "together":
            group = self.subject if len(self.subject) > 1 else [*self.earlier, *self.subject]
            for first, second in pairwise(group):
                self._say([first], "next to", [second], token)
        elif token.kind == "pronoun":
            if not self.subject or self.settled:
                self._begin(self.subject or self.earlier, keep=True)
        elif token.kind == "with":
            self.settled, self.belongs = True, True
        elif token.kind == "verb":
            self.verb = True
        elif token.kind == "end":
            self._end_sentence()
        return i + 1

    # What is placed

    def _name(self, i: int, mention: Mention) -> None:
        if self.subject and re.fullmatch(r"\s+of\s+[a-z' -]*", self.text[self.subject[-1].end : mention.start]):
            return  # "a vase of tulips": the vase is placed
        joined = not self.settled and self._joined(i)
        if self.subject and joined:
            self.subject.append(mention)
        else:
            self._begin([mention])
        if self.due is not None:
            side, of = self.due
            self.due = None
            self._place_side([mention], side, of, self.tokens[i])

    def _joined(self, i: int) -> bool:
        """Whether the name at `i` follows another name with nothing but commas and "and" between."""
        j = i - 1
        while j >= 0 and self.tokens[j].kind in ("stop", "and") and self.tokens[j].words != ":":
            j -= 1
        return j >= 0 and j < i - 1 and self.tokens[j].kind == "name"

    def _begin(self, who: list[Mention], keep: bool = False) -> None:
        """A new subject; the one before may be what "it" means, unless that one itself came with something."""
        if self.subject and not keep and (self.belongs or not self.belongs_to_earlier):
            self.earlier = self.subject
        self.belongs_to_earlier = self.belongs
        self.subject, self.settled, self.verb, self.belongs = list(who), False, False, False

    def _end_sentence(self) -> None:
        if self.subject and not self.belongs_to_earlier:
            self.earlier = self.subject
        elif not self.subject and self.object:
            self.earlier = [self.object]
        self.subject, self.object, self.settled, self.verb, self.due = [], None, False, False, None
        self.belongs = self.belongs_to_earlier = False

    # Relations

    def _relation(self, i: int) -> int:
        token = self.tokens[i]
        after = self._objects(i)
        if after is None:
            return self._objectless(i)
        objects, nxt, is_pronoun = after
        if is_pronoun:
            self._split(i)
            objects = self._meant_by_it(token.words, i)
            if not objects:
                return nxt
        fronted = self._fronted(i, nxt)
        if fronted is not None:
            self._begin([*objects], keep=is_pronoun)
            topic, self.subject = objects, []
            who = self.tokens[fronted].mention
            assert who is not None
            group = [who, *self._list_after(fronted)] if token.kind == "relation" else [who]
            self._claim(token, group, objects)
            self.earlier, self.subject, self.object = topic, group, objects[0]
            self.settled, self.belongs_to_earlier = True, True
            return fronted + len(group) * 2 - 1 if len(group) > 1 else fronted + 1
        self._claim(token, self._placed(i, token), objects)
        self.object, self.settled = (self.object if is_pronoun else objects[-1]), True
        return nxt

    def _objects(self, i: int) -> tuple[list[Mention], int, bool] | None:
        """What follows the relation at `i`: names (none: a pronoun), the next index, and whether it is a pronoun.

        None: nothing follows."""
        if i + 1 >= len(self.tokens):
            return None
        following = self.tokens[i + 1]
        filler = self.text[self.tokens[i].end : following.start].split()
        if following.kind in ("pronoun", "which") and not filler:
            return [], i + 2, True
        if following.kind != "name" or following.mention is None or not is_phrase(filler):
            return None
        found, nxt = [following.mention], i + 2
        if self.tokens[i].kind in ("between", "flanked", "bearing", "containing"):
            more = self._list_after(i + 1)
            more = more[:1] if self.tokens[i].kind == "between" else more
            found, nxt = [*found, *more], self._index_after(more, nxt)
        return found, nxt, False

    def _index_after(self, more: Sequence[Mention], otherwise: int) -> int:
        if not more:
            return otherwise
        return next(k for k, token in enumerate(self.tokens) if token.mention is more[-1]) + 1

    def _list_after(self, i: int) -> list[Mention]:
        """Names joined to the one at `i` by commas and "and"."""
        found, k = [], i + 1
        while k < len(self.tokens):
            if self.tokens[k].kind in ("stop", "and") and self.tokens[k].words != ":":
                k += 1
                continue
            mention = self.tokens[k].mention
            if mention is None or not is_phrase(self.text[self.tokens[k - 1].end : mention.start].split()):
                break
            found.append(mention)
            k += 1
        return found

    def _objectless(self, i: int) -> int:
        """A relation without an object: "with a lamp above" is above what was named before."""
        token = self.tokens[i]
        relation: Relation | None = "next to" if token.kind == "between" else ALONE.get(token.words)
        if relation or token.words in BEHIND:
            self._split(i)
        of = self._meant_by_it(token.words, i) if relation or token.words in BEHIND else []
        if of and self.subject and not set(of) & set(self.subject):
            self._claim(token, self._placed(i, token), of)
            self.settled = True
        elif of and not self.subject and relation:
            self.due = (relation, of)
        return i + 1

    def _split(self, i: int) -> None:
        """In "an armchair, a bookcase behind it" the last of the list stands to the rest."""
        if len(self.subject) > 1 and not self.verb and not self._starts(i):
            *rest, last = self.subject
            if self._pronoun(i) in _SEVERAL:
                rest = [each for each in rest if self._are_several([each])] or rest
            if not self.belongs_to_earlier:
                self.earlier, self.belongs_to_earlier = rest[-1:], True
            elif not self.earlier:
                self.earlier = rest[-1:]
            elif not self._told_of(self.earlier):
                return  # "a desk with a lamp and a mug on it"
            self.subject = [last]

    def _told_of(self, who: Sequence[Mention]) -> bool:
        """Whether something stands already to what "it" means."""
        return any(each.second in who for each in self.found)

    def _meant_by_it(self, words: str, i: int) -> list[Mention]:
        """What "it" or "them" stands for after a relation."""
        which = i + 1 < len(self.tokens) and self.tokens[i + 1].kind == "which"
        near = relation_of(words) in ("on", "in front of", "below")
        k = i - 1
        while which and k > 0 and self.tokens[k].kind == "stop":
            k -= 1
        if which and (before := self.tokens[k].mention):
            return [before]
        options = [self.subject] if self._starts(i) and not self.belongs_to_earlier else []
        options.append(self.earlier)
        last = [[self.object]] if self.object and self.object not in self.subject else []
        spoken_of_last = bool(last) and all(each.start < last[0][0].start for each in self.earlier)
        direct = near and spoken_of_last and not self._told_of(self.earlier)
        options = [*last, *options] if direct else [*options, *last]
        options = [each for each in options if each]
        if last and (self._is_contrast(words) or (self._is_topic(last[0][0]) and not self.belongs_to_earlier)):
            options = [*last, *options]
        if pronoun := self._pronoun(i):
            several = pronoun in _SEVERAL
            options = [each for each in options if self._are_several(each) == several] or options
            if pronoun.startswith(("him", "her")):
                options = [each for each in options if self.kind(each[-1].label) in LIVING] or options
        if relation_of(words) in ("below", "in front of"):
            options = [each for each in options if self.kind(each[-1].label) != "surface"] or options
        if relation_of(words) == "on":
            options = [each for each in options if self.kind(each[-1].label) in CARRIERS] or options
            options.sort(key=lambda each: self.kind(each[-1].label) != "furniture")
        return options[0] if options else []

    def _pronoun(self, i: int) -> str:
        """The pronoun that follows the token at `i`; "" = none."""
        return next((token.words for token in self.tokens[i + 1 : i + 2] if token.kind == "pronoun"), "")

    def _are_several(self, who: Sequence[Mention]) -> bool:
        """Whether "them" may stand for it: a list, or a plural, be it of one thing ("the swings")."""
        return len(who) > 1 or who[-1].count > 1 or bool(re.search(r"[^s]s$", self.text[: who[-1].end]))

    def _is_contrast(self, words: str) -> bool:
        """Whether a side is the other side of what the last relation spoke of: "left of the window, right of it"."""
        sides = ("left of", "right of")
        return bool(self.found) and relation_of(words) in sides and self.found[-1].relation in sides

    def _is_topic(self, mention: Mention) -> bool:
        """Whether something was an object twice or is named by more than one relation."""
        return len({each.first.start for each in self.found if each.second.label == mention.label}) > 1

    def _starts(self, i: int) -> bool:
        """Whether the relation at `i` opens a sentence or follows a stop or an "and"."""
        while i > 1 and self.tokens[i - 1].kind == "verb" and self.tokens[i - 2].kind == "end":
            i -= 1
        if i == 0:
            return not self.text[: self.tokens[0].start].split() or self.tokens[0].kind == "relation"
        return self.tokens[i - 1].kind in ("stop", "and", "end")

    def _fronted(self, i: int, nxt: int) -> int | None:
        """Index of the name that is placed by a relation before it ("on the table stands a lamp"); None: not so."""
        if not self._starts(i):
            return None
        k = nxt
        opens = i == 0 or self.tokens[i - 1].kind == "end"
        while k < len(self.tokens) and (
            self.tokens[k].kind == "verb" or (opens and k == nxt and self.tokens[k].words == ",")
        ):
            k += 1
        return k if k < len(self.tokens) and self.tokens[k].kind == "name" else None

    def _placed(self, i: int, token: Token) -> list[Mention]:
        """Which of what was named before the relation at `i` it speaks of."""
        if (told := self._told_by_clause(i)) is not None:
            return [told]
        before = self.tokens[i - 1] if i else None
        if before is not None and before.kind == "name" and before.mention is self.object:
            nearest = self.object is not None and token.kind == "relation" and self.kind(self.object.label) != "surface"
            return [self.object] if nearest and self.object else self.subject
        if len(self.subject) < 2 or self.verb or token.kind not in ("relation", "between"):
            return self.subject
        *_, beside, last = self.subject
        if not re.match(r"[\s,]*(?:and|&|plus)\b", self.text[beside.end : last.start]):
            return [last]
        if relation_of(token.words) in ("on", "inside"):
            k, kind = len(self.subject) - 1, self.kind(last.label)
            while k > 0 and (self.kind(self.subject[k - 1].label) in PORTABLE or kind == "person"):
                k -= 1
            return self.subject[k:]
        alike = len(self.subject) == 2 and not self.belongs_to_earlier and self.object is None
        return self.subject if alike else [last]

    def _told_by_clause(self, i: int) -> Mention | None:
        """What a clause speaks of that the relation at `i` stands in: "the rug that lies in front of ..."."""
        k = i - 1
        while k >= 0 and self.tokens[k].kind == "verb":
            k -= 1
        mention = self.tokens[k].mention if k >= 0 else None
        if mention is None or not re.match(r"\s+that(?:'s|\s)", self.text[mention.end : self.tokens[i].start]):
            return None
        return mention

    def _claim(self, token: Token, who: Sequence[Mention], objects: Sequence[Mention]) -> None:
        if token.kind == "passive" or token.words in ELSEWISE:
            return
        if token.kind in ("between", "flanked"):
            pairs = (objects, who) if token.kind == "flanked" else (who, objects)
            self._say(pairs[0], "next to", pairs[1], token)
        elif token.kind in ("bearing", "containing"):
            if any(self.kind(each.label) in LIVING for each in who):
                return
            self._say(objects, "on" if token.kind == "bearing" else "inside", who, token)
        elif token.words in BEHIND:
            self._say(objects, "in front of", who, token)
        elif relation := relation_of(token.words):
            if relation == "inside":
                objects = [each for each in objects if self._holds(each.label)]
            self._say(who, relation, objects, token)

    def _holds(self, label: str) -> bool:
        """Whether something can be seen to stand in a thing: in a vase or a car, not in a street or a window."""
        return self.kind(label) in HOLDERS and label.split()[-1] not in NO_INSIDE

    def _say(self, who: Sequence[Mention], relation: Relation, others: Sequence[Mention], token: Token) -> None:
        if relation == "below" and all(each.label.split()[-1] in FLAT for each in who):
            who, relation, others = others, "on", who  # "a rug under the table"
        for first in who:
            for second in others:
                if first.label != second.label:
                    start, end = min(first.start, second.start, token.start), max(first.end, second.end, token.end)
                    self.found.append(Stands(first, relation, second, start, end))

    # Sides

    def _side(self, i: int) -> int:
        """A side without "of": of something ("on its left"), or of the picture."""
        token = self.tokens[i]
        side: Relation = "left of" if re.search(r"\bleft\b", token.words) else "right of"
        of: list[Mention] = []
        if re.search(r"\b(?:its|his|her|their)\b", token.words):
            listed = [] if self.verb or self._starts(i) else self.subject[-2:-1]  # "a boat, a parasol to its left"
            own = {each.label for each in self.subject[-1:]}  # "one speaker left of the telly, another to its right"
            options = [listed, self.earlier, [self.object] if self.object else []]
            of = next((each for each in options if each and each[-1].label not in own), [])
        follows = self.tokens[i + 1 : i + 3]
        listed_after = self._opens(i) or (self._starts(i) and self.tokens[i - 1].kind == "and")
        if follows and (follows[0].words == ":" or (follows[0].words == "," and listed_after)):
            follows = follows[1:]
        while follows and follows[0].kind == "verb":
            follows = follows[1:]
        last = self.found[-1] if self.found else None
        if not of and last and last.relation in ("left of", "right of") and not self._ended(last.end, token.start):
            of = [last.second]  # "two mugs to the left of it, a bonsai to the right"
        if self._starts(i) and follows and follows[0].kind == "name":
            self.due, self.settled = (side, of or []), True
        elif self.subject:
            who = self.subject if self.verb else self.subject[-1:]
            if (not of and self.belongs_to_earlier) or re.match(r"to the", token.words):
                of = of or self.earlier
            self._place_side(who, side, of, token)
            self.settled = True
        return i + 1

    def _ended(self, start: int, end: int) -> bool:
        """Whether a sentence ends between two places of the text."""
        return any(token.kind == "end" and start <= token.start < end for token in self.tokens)

    def _opens(self, i: int) -> bool:
        """Whether a token is the first of a sentence, an "and" aside."""
        while i and self.tokens[i - 1].kind == "and":
            i -= 1
        return i == 0 or self.tokens[i - 1].kind == "end"

    def _place_side(self, who: list[Mention], side: Relation, of: list[Mention], token: Token) -> None:
        self._say(who, side, of, token)
        if side in ("left of", "right of"):
            self.sides.append(Side(who, side, token.end))


def stands(text: str, named: Sequence[Mention], kind: Callable[[str], str]) -> Iterator[Stands]:
    """Which named thing stands how to which, each pair and relation once.

    Args:
        text: a prompt in lower case.
        named: what `Vocabulary.find` found in it.
        kind: label -> kind of thing.
    """
    seen = set()
    for each in Walker(text, named, kind).walk():
        key = (each.first.label, each.relation, each.second.label)
        if key not in seen:
            seen.add(key)
            yield each
