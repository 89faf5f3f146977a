"""Sentences of a short answer, in English and Chinese."""

import re

# The end of a sentence: Chinese marks, or a Western mark before a blank. A point in a number, an abbreviation of one
# letter or "Mr." ends none. Closing quotes and a citation such as [2] belong to the sentence before them.
CLOSING = r"[\"'”’」』)）\]*_]*(?:\s*\[\d+\])*"
END = re.compile(
    rf"(?:[。！？]+|(?<!\b[A-Za-z])(?<!\b[DM]r)(?<!\bMrs)(?<!\bvs)(?<!\be\.g)(?<!\bi\.e)(?<!\betc)[.!?…]+(?={CLOSING}(?:\s|$))){CLOSING}"
)
HAS_TEXT = re.compile(r"\w")


def sentences(text: str) -> list[str]:
    """The sentences of `text` with their marks; a line break ends a sentence too. Text without letters is none."""
    found = []
    for line in text.splitlines():
        start = 0
        for match in END.finditer(line):
            found.append(line[start : match.end()].strip())
            start = match.end()
        found.append(line[start:].strip())
    return [sentence for sentence in found if HAS_TEXT.search(sentence)]
