"""People in a prompt who are only spoken of: who own or say something, or are the ones that it is for ("my gran's
sofa", "dad wants a lamp", "a bed for the kids")."""

from __future__ import annotations

import re

_OWNER = re.compile(
    r"(?: [a-z]+)?(?:'s|s'|')\s+(?!(?:an?|the|in|on|at|by|not|been|got|there|here|his|her|my|their|now|also)\b)"
    r"(?![a-z]+ing\b)[a-z]"
)
_SPEAKS = re.compile(
    r"\s+(?:(?:always|never|still|really|only|just|once|has|have|had|would|will|is|was)\s+)*(?:not\s+)?"
    r"(?:insists?|insisted|wants?|wanted|says?|said|likes?|liked|loves?|loved|hates?|hated|thinks?|thought|asked|asks|"
    r"reckons?|reckoned|bought|buys|gave|gives|left|made|makes|passed|promised|swears?|told|tells|keeps|kept|prefers?|"
    r"preferred|calls?|called|hung|built|painted|found|brought|brings|amused|picked|chose|inherited|collects?|"
    r"collected|supplied|supplies|drove|drives|lent|sold|fixed|carved|knitted|dreams?|dreamt|"
    r"needs?|needed|deals?|remembers?|begged|requested|suggests?|suggested)\b"
)
_KIN_BEFORE = re.compile(r"\b(?:my|our|the|his|her|their|your)\s+(?:[a-z-]+\s+)?$")
_CALLED = frozenset(
    "dad daddy pop papa mum mummy mom mommy mama grandad granddad grandpa gramps gran granny grandma nan nana nanna "
    "auntie aunt uncle".split()
)
_MEANT_FOR = re.compile(
    r"\b(?:for|to please|to surprise|from|like|look|dear|hey|belonged to|belongs to|given by|thanks to|according to|"
    r"i was|as|asked|of(?= (?:my|our|his|her|their)\b))\s+"
    r"(?:(?:my|our|his|her|their|your|the|a|an|two|three)\s+)?(?:[a-z-]+\s+)?$"
)
_AT_HOME = re.compile(r"\b(?:at|to|in|from|round|near|for)\s+(?:(?:my|our|his|her|their|your|the)\s+)?(?:[a-z-]+\s+)?$")


def is_bystander(before: str, word: str, after: str, own: bool) -> bool:
    """Whether a person is only spoken of.

    Args:
        before, word, after: the text up to the word for the person, the word, and what follows; lower case.
        own: the word stands in the world file.
    """
    if _OWNER.match(after) and not own:
        return True
    if re.match(r"'s\s*(?:[.,;:!?)]|$)", after) and _AT_HOME.search(before):
        return True
    spoken_of = bool(_KIN_BEFORE.search(before)) or word in _CALLED
    return bool((spoken_of and _SPEAKS.match(after)) or _MEANT_FOR.search(before))
