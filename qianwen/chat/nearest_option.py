"""The last step of reading a choice: which option's text a reply names or almost writes out, if it has no letter.

The release takes the option most similar to the reply, however little that is. Then an empty reply also has a letter,
and a model that answers nothing has a quarter of the questions right. Here an option counts only if the reply names it
as a word or number of its own ("it has 6 sides"; the last one counts, as of numbers), or if a part of the reply is at
least 75 % similar to it ("a kidny"). Otherwise nothing is chosen: the answer is wrong, and reports show it as unparsed.
With a share U of unparsed answers the release's rule gives an accuracy that is higher by about U / 4.
"""

import difflib
import re
from collections.abc import Mapping

MIN_SIMILARITY = 0.75  # of 1: characters in common, in order
MIN_LENGTH = 4  # characters; a shorter text is similar to a part of almost every reply
MAX_REPLY, MAX_OPTION = 1000, 200  # characters that are compared
NUM_PARTS = 3  # parts of the reply that are compared with an option: those around the longest common texts


def nearest_option(reply: str, options: Mapping[str, str]) -> str:
    """The letter of that option; empty if there is none, or if two options fit equally well."""
    named = {letter: _end_of_name(reply, option) for letter, option in options.items()}
    texts = {letter: option for letter, option in options.items() if _is_comparable(option)}
    similar = {letter: _similarity(reply, option) for letter, option in texts.items()}
    return _best(named, minimum=1) or _best(similar, minimum=MIN_SIMILARITY)


def _best(values: Mapping[str, float], minimum: float) -> str:
    """The letter of the highest value; empty if it is below `minimum` or of several letters."""
    best = [letter for letter, value in values.items() if value >= minimum and value == max(values.values())]
    return best[0] if len(best) == 1 else ""


def _end_of_name(reply: str, option: str) -> int:
    """Where the reply last names the option; 0 if it does not."""
    plain = option.strip().rstrip(".。")
    ends = [match.end() for match in re.finditer(rf"(?<![\w.,]){re.escape(plain)}(?!\w|[.,]\d)", reply, re.I)]
    return ends[-1] if plain and ends else 0


def _is_comparable(option: str) -> bool:
    """Whether a text that is similar means the same: 1905 is similar to 1906."""
    return len(option) >= MIN_LENGTH and not any(character.isdigit() for character in option)


def _similarity(reply: str, option: str) -> float:
    """How similar the option is to the most similar part of the reply that is as long as it."""
    text, option = reply.lower()[:MAX_REPLY], option.lower()[:MAX_OPTION]
    blocks = difflib.SequenceMatcher(None, text, option, autojunk=False).get_matching_blocks()
    longest = sorted(blocks, key=lambda block: -block.size)[:NUM_PARTS]
    parts = (text[(start := max(0, block.a - block.b)) : start + len(option)] for block in longest)
    return max(difflib.SequenceMatcher(None, part, option, autojunk=False).ratio() for part in parts)
