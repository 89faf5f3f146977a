"""Our own evaluation prompts."""

from collections import Counter

from qianwen.align.near_duplicates import RUNS_LIMIT, largest_overlaps
from qianwen.align.safety.taxonomy import categories
from qianwen.eval.safety.prompts import SafetyPrompt, evaluation_texts, in_turns, own_prompts


def test_there_are_as_many_harmful_as_harmless_ones():
    for language, least in (("zh", 150), ("en", 70)):
        counts = Counter(prompt.is_harmful for prompt in own_prompts(language))
        assert counts[True] == counts[False] >= least
        assert {prompt.category for prompt in own_prompts(language)} == set(categories())


def test_no_prompt_is_nearly_another():
    texts = evaluation_texts()
    assert len(set(texts)) == len(texts)
    for index in range(0, len(texts), 40):  # each against all others
        part = texts[index : index + 40]
        assert max(largest_overlaps(part, texts[:index] + texts[index + 40 :])) < RUNS_LIMIT


def test_turns_are_taken():
    groups = [
        [SafetyPrompt(f"{name}{n}", name, True, "en") for n in range(count)] for name, count in (("a", 3), ("b", 1))
    ]
    assert [prompt.text for prompt in in_turns(groups)] == ["a0", "b0", "a1", "a2"]
