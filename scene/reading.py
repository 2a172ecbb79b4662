"""Which named things a prompt asks for, and how many: numbers before and after a name, pairs and dozens, "no",
corrections, names that only describe ("a glass bowl", "the dog's basket") and names for what was named before ("the
bed": the bunk bed).

Everything is read off the words, one clause at a time; no model. `Vocabulary.find` calls this; where an object stands
is read by `scene.clauses`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from scene.bystanders import is_bystander

NUMBER_WORDS = {
    "a": 1, "an": 1, "one": 1, "another": 1, "two": 2, "both": 2, "couple": 2, "pair": 2, "three": 3, "several": 3,
    "few": 3, "some": 2, "four": 4, "five": 5, "six": 6, "seven": 7, "eight": 8, "nine": 9, "ten": 10,
    "single": 1, "twin": 2, "trio": 3, "many": 3, "eleven": 11, "twelve": 12, "half-dozen": 6, "thirteen": 13,
    "fourteen": 14, "fifteen": 15, "sixteen": 16, "seventeen": 17, "eighteen": 18, "nineteen": 19, "twenty": 20,
    "quartet": 4, "foursome": 4, "threesome": 3, "quintet": 5, "brace": 2, "lone": 1, "solitary": 1,
}  # fmt: skip
DETERMINERS = (
    frozenset(NUMBER_WORDS) | {"dozen"} | frozenset("the his her their its my your our this these those some".split())
)
PREPOSITIONS = frozenset(
    "under over above below beneath behind beside near in on at by with inside into onto around of between".split()
)
MOST = 20  # larger numbers are read as this
LOOK_BACK = 4  # words before a name in which its number stands
WORD = re.compile(r"[a-z0-9][a-z0-9'-]*")
_UNITS = {"pair": 2, "pairs": 2, "couple": 2, "dozen": 12, "dozens": 12}
_PICTURES = ("picture", "photo", "photograph", "painting", "poster", "portrait", "snap", "snapshot")
_VAGUE = frozenset("some few several many both couple pair".split())
_GROUPS = frozenset(
    "set sets row rows group groups line collection array bunch stack trio quartet foursome threesome "
    "quintet brace".split()
)
_MEASURES = frozenset(
    (
        "seater seat drawer door tier person legged piece burner year storey story inch cm m ft foot metre meter slice "
        "speed"
    ).split()
)
_NUMBER = r"(?:half a dozen|a dozen|\d{1,2}|one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve)"
_MARKS = (
    r"(?:(?:no|nope|well|wait|sorry|rather|actually)\s*[,.…–—-]+|or rather|oh wait|i mean|i meant|make that|make it|"
    r"scratch that|sorry|no wait|that is to say|correction)"
)
_CORRECTED = re.compile(
    rf"\s*[,.…;:–—-]+\s*(?:{_MARKS}[\s,.…:–—-]*)+(?:[\w'-]+\s+){{0,3}}$|\s+or rather\s+(?:[\w'-]+\s+){{0,3}}$"
)
_ONE_EACH = re.compile(r"\s*,?\s*one\s+(?:on|at|to|for)\s+(?:each|either)\s+(?:side|end|hand)\b")
_AFTER = re.compile(
    rf"\s*(?P<stop>[,:(–—-]*)\s*(?P<cue>(?:{_MARKS}[\s,.…:–—-]*)+|say,?|make it|let's say|maybe|perhaps|about|"
    r"for|x|×)?\s*"
    rf"(?P<number>{_NUMBER})(?P<tail>\s+of (?:them|those|these)|\s+in (?:all|total|number)|\s+altogether|"
    r"\s+(?:people|persons|guests|friends|players|diners|kids|children))?"
    r"\s*(?:$|[,.;:!?)]|(?:at|around|in|on|by|and|with|along|near|please)\b)"
)
_NEGATED = re.compile(
    r"\b(?:(?:no|without|zero|minus|lacks|lacking)(?: (?:any|a|an|the|single|more|other))*"
    r"(?: (?!than\b|more\b|less\b|fewer\b|longer\b|one\b|matter\b|need\b)[a-z'-]+)?|"
    r"(?:not|isn't|aren't|never|instead of|rather than|(?<!nothing )(?<!nothing else )(?<!nothing more )"
    r"except(?: for)?|"
    r"neither|nor|"
    r"(?:does|do|did)(?:n't| not) (?:have|want|need|include|add|draw|show|like))"
    r"(?: (?:a|an|any|the|single))*(?: [a-z'-]+)?)\s+$"
)
_ALSO_NOT = re.compile(r"\s*,?\s*(?:or|nor)\s+(?:an?\s+|any\s+|the\s+)?(?:[a-z'-]+\s+)?$")
_JOINED = re.compile(r"\s*(?:,|and|&|plus|as well as|,\s*and)\s+(?P<first>[a-z0-9]+)\s+(?:[a-z'-]+\s+){0,3}$")
_VERB_BEFORE = re.compile(
    r"\b(?:am|i'm|we're|they're|you're|to|i|we|they|you|he|she|who|can|could|will|would|must|let's|us)\s+$"
)
_VERB_AFTER = re.compile(r"\s+(?:a|an|the|their|his|her|my|our|its|this|that|it|them)\b")
_OPENING = re.compile(
    r"\W*(?:(?:is it possible to|get|hello|hi|hey|search|for|looking|am|'m|"
    r"please|can|could|would|you|i|want|would|like|need|draw|paint|make|create|generate|show|give|sketch|me|us|"
    r"d|ll|love|have|really|just|quick|simple|cute|little|small|big|sweet|lovely|detailed|cartoon|pencil|watercolou?r|"
    r"we|do|to|see|try|this|is|it|s|here|how|about|a|an|the|[a-z]+ful|nice|realistic|colou?r|black|white|and)\W+)*$"
)
_EACH = re.compile(
    r"(?:\s+(?!and\b|with\b|on\b|at\b|in\b|by\b|to\b)[a-z-]+){0,3}\s+(?:on|at|to|by|in|down)\s+"
    r"(?P<of>each|either|both|every)\b(?:\s+(?P<side>sides?|ends?|corners?|hands?|flanks?)\b)?"
)
_EACH_BEFORE = re.compile(
    r"\b(?:on|at|to|by) (?:either|each|both) (?:sides?|ends?)"
    r"(?: of (?:it|them|(?:the|a|an|my|our|his|her) [a-z' -]+))?\s*,?\s*"
    r"(?:(?:stands?|sits?|is|there's|there is|hangs?|goes|put|place|i'd like|we want)\s+)*(?:an?|one)\s+"
    r"(?:[a-z-]+\s+){0,2}$"
)
_WHERE = r"(?:on|to|at|in|by|under|above|beside|next|behind|near|over|below)\b"
_ANOTHER = re.compile(
    rf"(?:(?<=[,;] )(?:and )?|\band )(?P<another>(?:another|a second|a third)(?: one)?)(?= {_WHERE}|\s*,? {_WHERE}|"
    r"\s*(?:[,.;!?]|$))"
)
_IN_THE_PICTURE = re.compile(r"\b(?:off|in|into|out of|from|of)\s+(?:the|this|my|your)\s+$")
_PICTURED = re.compile(r"\s*(?::|of|from|with|where|showing|in which|that shows)\b")


@dataclass(frozen=True)
class Mention:
    """A category named in a text: how many, and where (character offsets, half-open).

    `adds`: besides those of the label named before ("another"). `told`: the text says how many.
    """

    label: str
    count: int
    start: int
    end: int
    adds: bool = False
    told: bool = False


@dataclass(frozen=True)
class Name:
    """A name as it stands in a text.

    Attributes:
        label: its category; "" where the phrase asks for nothing.
        start, end: character offsets, half-open.
        plural: several are meant where nothing else is said.
        counted: a number before it is a number of objects (not so with "bread", or "flowers": a bunch).
        pairs: one object comes in pairs ("shoes").
        person: someone, not something.
        verb: the word is a verb as often.
        part_after: prepositions after which it is a part of what was named before.
        own: the word stands in the world file.
    """

    label: str
    start: int
    end: int
    plural: bool = False
    counted: bool = True
    pairs: bool = False
    person: bool = False
    verb: bool = False
    part_after: tuple[str, ...] = ()
    own: bool = True


def number_before(before: str, name: Name, plainly: bool = False) -> tuple[int, bool]:
    """How many of a name the words before it ask for, and whether they say so.

    Args:
        before: the text up to the name, lower case.
        name: the name.
        plainly: see `stated`.
    """
    words = WORD.findall(before)
    for back in range(1, min(LOOK_BACK, len(words)) + 1):
        word, earlier = words[-back], words[-back - 1 :: -1] if back < len(words) else []
        number = _number(word)
        if word in _UNITS and not plainly and not (word in ("pair", "couple") and not name.pairs):
            number = round(_units(earlier, word) * (1 if name.pairs and word != "dozen" else _UNITS[word]))
            return max(1, min(number, MOST)), True
        if number is not None and (plainly or back == 1 or words[-back + 1] not in _MEASURES):
            if name.plural:
                least = 1 if word.isdigit() or word == "single" else 2
                return max(least, min(number, MOST)), number > 1
            exact = not plainly and word not in _VAGUE and (name.pairs or back == 1)
            if number == 1 or word.isdigit() or (exact and name.counted):
                return (max(1, min(number, MOST)) if name.counted or plainly else 1), True
        if not plainly and word in DETERMINERS and earlier[:1] == ["of"] and (some := _number("".join(earlier[1:2]))):
            return min(some, MOST), True  # "one of those brass lamps"
        of_group = not plainly and word == "of" and earlier[:1] and (earlier[0] in _GROUPS or earlier[0] in _UNITS)
        if not of_group and (word in DETERMINERS or word in PREPOSITIONS or word == "and"):
            break
    return (2, False) if name.plural else (1, False)


def _number(word: str) -> int | None:
    return int(word) if word.isdigit() else NUMBER_WORDS.get(word)


def _units(earlier: Sequence[str], unit: str) -> float:
    """How many dozens or pairs, by the words before, nearest first."""
    if earlier[:1] == ["half"] or earlier[:2] == ["a", "half"]:
        return 0.5
    skipped = [word for word in earlier[:2] if word not in ("just", "only", "more")]
    return (_number(skipped[0]) if skipped else None) or (2 if unit.endswith("s") else 1)


def stated(text: str, names: Sequence[Name]) -> list[Mention]:
    """All names with the plain numbers before them, whatever the sentence makes of them; arguments as for `mentions`.

    No dozens, no pairs: corpora were built by this rule, and must come out the same to the byte.
    """
    counts = [number_before(text[: name.start], name, plainly=True)[0] for name in names]
    return [
        Mention(name.label, count, name.start, name.end, adds=WORD.findall(text[: name.start])[-1:] == ["another"])
        for name, count in zip(names, counts, strict=True)
    ]


def mentions(text: str, names: Sequence[Name]) -> list[Mention]:
    """What a prompt asks for, of the names in it.

    Args:
        text: the prompt, lower case.
        names: the names in it, in order, those that ask for nothing included.
    """
    found: list[Mention] = []
    asked: list[Name] = []
    before: tuple[Name, bool] | None = None  # the name before, and whether it is one that must not be there
    for i, name in enumerate(names):
        if not name.label:
            continue
        follows = names[i + 1] if i + 1 < len(names) else None
        lead = text[before[0].end : name.start] if before else text[: name.start]
        negated = bool(_NEGATED.search(lead)) or (before is not None and before[1] and bool(_ALSO_NOT.match(lead)))
        if (
            negated
            or _describes(text, name, follows)
            or _is_verb(text, name)
            or _is_frame(text, name, asked)
            or _is_part(text, name, asked)
            or _is_bystander(text, name)
        ):
            before = (name, negated)
            continue
        if asked and found and _CORRECTED.match(text[asked[-1].end : name.start]):
            found.pop()
            asked.pop()
        count, told = number_before(text[: name.start], name)
        if not told and name.plural:
            count, told = _number_after(text[name.end :], count)
        elif name.plural:
            count = _mended_number(text[name.end :], count)
        if count == 1 and name.counted:
            count, told = _one_each(text, name, found, told)
        mention = _named_before(text, Mention(name.label, count, name.start, name.end, told=told), found)
        found.append(replace(mention, adds=_adds(text, mention, found)))
        asked.append(name)
        before = (name, False)
    return _with_others(text, _said_again(text, names, _without_headings(text, found)))


def _one_each(text: str, name: Name, found: Sequence[Mention], told: bool) -> tuple[int, bool]:
    """How many "a lamp on either side" or "a candle on each table" asks for."""
    after = _EACH.match(text[name.end :])
    if after and after["side"]:
        return (4 if after["side"].startswith("corner") else 2), True
    several = [each.count for each in found if each.count > 1]
    if after and several and after["of"] != "either":
        return min(several[-1], MOST), True
    if _EACH_BEFORE.search(text[: name.start]):
        return 2, True
    return 1, told


def _is_bystander(text: str, name: Name) -> bool:
    before, word, after = text[: name.start], text[name.start : name.end], text[name.end :]
    return name.person and is_bystander(before, word, after, name.own)


def _with_others(text: str, found: Sequence[Mention]) -> list[Mention]:
    """Adds what "another to its right" means: one more of what was named before it."""
    more = []
    for match in _ANOTHER.finditer(text):
        earlier = [each for each in found if each.end <= match.start() and each.told and each.count == 1]
        same = [each for each in earlier if text[: each.start].endswith("one ")] or earlier[:1]
        if same:
            more.append(Mention(same[-1].label, 1, *match.span("another"), adds=True, told=True))
    return sorted([*found, *more], key=lambda mention: mention.start)


def _said_again(text: str, names: Sequence[Name], found: Sequence[Mention]) -> list[Mention]:
    """Adds what "the machine" means after a washing machine: its name's last word, if that names nothing by itself."""
    more: list[Mention] = []
    for mention in found:
        first, _, last = text[mention.start : mention.end].rpartition(" ")
        if not first:
            continue
        for match in re.finditer(rf"\b(?:the|that|this|its) (?P<word>{re.escape(last)})\b", text[mention.end :]):
            start, end = (mention.end + place for place in match.span("word"))
            spans = [(each.start, each.end) for each in names] + [(each.start, each.end) for each in more]
            if not any(first < end and start < after for first, after in spans):
                more.append(replace(mention, start=start, end=end, adds=False))
    return sorted([*found, *more], key=lambda mention: mention.start)


def _describes(text: str, name: Name, follows: Name | None) -> bool:
    """Whether a name only says what kind the next thing is: "a glass bowl", "the dog's basket"."""
    if follows is None or _is_verb(text, follows):
        return False
    between = text[name.end : follows.start]
    if re.fullmatch(r"(?:'s|s'|')\s+(?:[a-z-]+\s+)?", between):
        return not (name.person and name.own) or between.startswith("' ")  # "the kids' scooters"
    words = WORD.findall(text[: name.start])[-2:]
    return between in (" ", "-") and not name.plural and (not name.own or bool(DETERMINERS & set(words)))


def _is_verb(text: str, name: Name) -> bool:
    """Whether a word that may be a verb is one here: "watch the telly", "to plant"."""
    if not name.verb:
        return False
    words = WORD.findall(text[: name.start])[-1:]
    named = bool(words) and (words[0] in DETERMINERS or words[0] in PREPOSITIONS or words[0] == "and")
    return bool(_VERB_BEFORE.search(text[: name.start])) or (not named and bool(_VERB_AFTER.match(text[name.end :])))


def _is_part(text: str, name: Name, asked: Sequence[Name]) -> bool:
    """Whether a name is part of what was named before ("a chair with a green seat", "a plant in a pot"), or what that
    shows ("a picture of grandma")."""
    if not asked:
        return False
    between = text[asked[-1].end : name.start]
    shown = re.match(r"\s+of\s+([a-z' -]*)$", between)
    if shown and text[asked[-1].start : asked[-1].end].endswith(_PICTURES) and not set(shown[1].split()) & PREPOSITIONS:
        return True
    if not name.part_after:
        return False
    return bool(re.match(rf"\s+(?:[a-z-]+\s+)?(?:{'|'.join(name.part_after)})\s+[a-z -]*$", between))


def _is_frame(text: str, name: Name, asked: Sequence[Name]) -> bool:
    """Whether a name is the picture that is asked for ("a photo of a street"), not something in it."""
    words, before = text[name.start : name.end].split(), text[: name.start]
    if words[-1] not in _PICTURES:
        return False
    if words == ["picture"] and (not before.strip() or _IN_THE_PICTURE.search(before)):
        return True  # "picture a street", "keep it off the picture"
    if words[-1].startswith("snap") and not asked and re.match(r"\s*[,:]", text[name.end :]):
        return True
    return bool(not asked and _OPENING.match(before) and _PICTURED.match(text[name.end :]))


def _number_after(after: str, count: int) -> tuple[int, bool]:
    """A number that follows: "chairs, say four", "bicycles: two of them", "chairs for three"."""
    if _ONE_EACH.match(after):
        return 2, True
    match = _AFTER.match(after)
    if match and (match["stop"] or match["cue"] or match["tail"]):
        return _value(match["number"]), True
    return count, False


def _mended_number(after: str, count: int) -> int:
    """The number before, unless it is taken back: "two sofas, no, make it three"."""
    match = _AFTER.match(after)
    return _value(match["number"]) if match and re.match(_MARKS, match["cue"] or "") else count


def _value(number: str) -> int:
    if number.isdigit():
        return max(1, min(int(number), MOST))
    return {"half a dozen": 6, "a dozen": 12}.get(number) or NUMBER_WORDS[number]


def _named_before(text: str, mention: Mention, found: Sequence[Mention]) -> Mention:
    """ "The bed" is the bunk bed that was named before it, not one more bed; "4 chairs" are the 4 garden chairs."""
    word = text[mention.start : mention.end]
    last = WORD.findall(text[: mention.start])[-1:]
    if mention.told and mention.count > 1 and " " not in word:
        for earlier in found:
            named = text[earlier.start : earlier.end]
            if earlier.count == mention.count and earlier.told and named.endswith(" " + word):
                return replace(mention, label=earlier.label)
    if " " in word or not last or last[0] not in ("the", "its", "their", "this", "that", "his", "her", "my"):
        return mention
    for earlier in reversed(found):
        if earlier.label == mention.label:
            return mention
        before = text[earlier.start : earlier.end]
        if before.endswith(word) and before != word:
            return replace(mention, label=earlier.label)
    return mention


def _adds(text: str, mention: Mention, found: Sequence[Mention]) -> bool:
    """Whether a mention is of things besides those named before: "another", "a red chair and a blue chair"."""
    last = WORD.findall(text[: mention.start])[-2:]
    same = [earlier for earlier in found if earlier.label == mention.label]
    if last and last[-1] in ("another", "second"):
        return True
    if last == ["the", "other"] and len(same) == 1 and same[0].count == 1:
        return True
    if not found or found[-1].label != mention.label or not (mention.told and found[-1].told):
        return False
    joined = _JOINED.match(text[found[-1].end : mention.start])
    return joined is not None and _number(joined["first"]) is not None


def _without_headings(text: str, found: Sequence[Mention]) -> list[Mention]:
    """Leaves out bare plurals that the next sentence or list says more about: "bins out tonight: two wheelie bins"."""
    kept = []
    for i, mention in enumerate(found):
        word, bare = text[mention.start : mention.end], not mention.told and mention.count > 1
        later = found[i + 1 :] if bare else ()
        if not any(
            other.label != mention.label
            and text[other.start : other.end].endswith(" " + word)
            and re.search(r"[:.;!?–—]", text[mention.end : other.start])
            for other in later
        ):
            kept.append(mention)
    return kept
