"""Replies to questions with four options, in English and Chinese.

`{L}` and `{text}` are the chosen letter and its option, `{M}` the next letter, `{N}` a third one, `{all}` the list of
options.
"""

from collections.abc import Iterator, Mapping
from functools import partial

from qianwen.chat.answers import choice
from qianwen.eval.reader_cases.case import Case

LETTERS = "ABCD"
ENGLISH = {
    "Which organ cleans the blood?": ("the heart", "the liver", "the left lung", "a kidney"),
    "How many sides has a cube?": ("6", "8", "12", "16"),
    "In which year did it begin?": ("1905", "1915", "1925", "1945"),
    "Which vitamin is it?": ("vitamin A", "vitamin B12", "vitamin C", "vitamin D"),
    "What follows from the law?": (
        "prices rise and demand falls", "demand falls", "prices rise", "neither prices nor demand change",
    ),
}  # fmt: skip
CHINESE = {
    "中国的首都是哪里？": ("北京", "上海", "广州", "深圳"),
    "立方体有几个面？": ("6", "8", "12", "16"),
    "下列说法符合牛顿第一定律的是": ("力是运动的原因", "物体有惯性", "力可以改变运动状态", "惯性是一种力"),
    "该物质属于": ("酸", "碱", "盐", "氧化物"),
    "《红楼梦》的作者是": ("曹雪芹", "罗贯中", "施耐庵", "吴承恩"),
}

ENGLISH_TEMPLATES = {
    "ordinary": ("The answer is {L}.", "{L}", "{L}. {text}", "The correct answer is ({L}) {text}.", "Answer: {L}"),
    "only the text": ("{text}", "It must be {text}."),
    "negation": (
        "The answer is not {M} but {L}.",
        "The answer is {L}, not {M}.",
        "It is not {M}. The answer is {L}.",
        "It can't be option {M}, so {L}.",
        "{M} is incorrect. {L} is correct.",
        "Not {M}; it is {L}.",
    ),
    "one by one": (
        "{M} is wrong because it is too small. {N} is wrong too. That leaves {L}.",
        "{M} and {N} are incorrect, so it must be {L}.",
        "We can rule out {M} and {N}. My choice is {L}.",
    ),
    "options repeated": ("{all}\n\nAnswer: {L}", "The options are:\n{all}\nI would choose {L}.", "{all}\n\n{L}"),
    "another letter later": (
        "The answer is {L}. Option {M} is a common mistake.",
        "{L}. {text}\n\n{M} is often confused with it.",
        "The answer is {L} because {M} and {N} describe something else.",
    ),
    "the article": ("A good question. The answer is {L}.", "A careful look shows that it is {L}.", "I think {L}."),
    "markdown": ("**{L}**", "**Answer: {L}**", "### Answer\n\n**{L}. {text}**", "The answer is `{L}`.", "* {L} *"),
    "LaTeX": (r"$\boxed{{{L}}}$", r"The answer is $\boxed{{\text{{{L}}}}}$, not {M}.", r"\boxed{{{L}. {text}}}"),
    "brackets": ("({L})", "[{L}]", "'{L}'", '"{L}"', "<{L}>", "{L})"),
    "small letters": ("the answer is {l}.", "({l})", "{l}) {text}", "answer: {l}"),
    "corrected": (
        "The answer is {M}. Wait, that is wrong: the answer is {L}.",
        "The answer is {M}... Actually, the answer is {L}.",
    ),
    "reasoning first": (
        "Let us see. {M} looks right at first, but on reflection the answer is {L}.",
        "Compare {M} with {L}: the second is correct. So the correct option is {L}.",
    ),
    "full-width": ("Ａnswer： {W}", "{W}"),
    "not used for tuning": (
        "My answer would be {L} since {M} contradicts the question.",
        "Out of these, {L} fits best; {M} does not fit.",
        "{M}? No. {L}? Yes.",
        "Although many people say {M}, the right one is {L}.",
        "Therefore ({L}).\n\nExplanation: ({M}) would need more.",
        "Choose {L}, never {M}.",
        "I'm going with option {L} over option {M}.",
        "{text} is what the question asks for, unlike {M}.",
    ),
    "two choices": ("Both {L} and {M} are correct.",),
    "no choice": ("I do not know.", "The question is unclear."),
    "cut": ("Let us go through the options. {M} says",),
}
CHINESE_TEMPLATES = {
    "ordinary": ("答案是{L}。", "{L}", "{L}. {text}", "正确答案是：{L}", "故选{L}。", "答案：{L}"),
    "only the text": ("{text}", "应该是{text}。"),
    "negation": (
        "答案不是{M}，而是{L}。",
        "答案是{L}，不是{M}。",
        "{M}选项错误，{L}选项正确。",
        "不选{M}，应选{L}。",
        "{M}不对，所以选{L}。",
    ),
    "one by one": (
        "{M}错误，{N}也错误，因此选{L}。",
        "{M}和{N}都不正确，所以答案为{L}。",
        "排除{M}和{N}，选择{L}。",
        "选项{M}不符合题意，选项{L}符合题意。",
    ),
    "options repeated": ("{all}\n\n答案：{L}", "选项如下：\n{all}\n我选{L}。", "{all}\n\n{L}"),
    "another letter later": (
        "答案是{L}。选项{M}是常见的错误。",
        "选{L}，因为{M}、{N}说的是别的情况。",
        "{L}。{M}容易与它混淆。",
    ),
    "markdown": ("**{L}**", "**答案：{L}**", "### 答案\n\n**{L}. {text}**", "答案是 `{L}`。"),
    "LaTeX": (r"$\boxed{{{L}}}$", r"答案是$\boxed{{\text{{{L}}}}}$，不是{M}。"),
    "brackets": ("（{L}）", "【{L}】", "“{L}”", "答案是（{L}）", "本题选【{L}】"),
    "full-width": ("答案是{W}。", "{W}"),
    "small letters": ("答案是{l}。",),
    "corrected": ("答案是{M}。不对，答案是{L}。", "答案是{M}。等等，重新考虑，答案是{L}。"),
    "mixed languages": ("The answer is {L}，即{text}。", "答案 is {L}.", "Answer：{L}"),
    "reasoning first": ("乍看{M}是对的，但仔细分析后，正确的选项是{L}。", "比较{M}和{L}，后者更准确，因此答案是{L}。"),
    "question repeated": ("{question}{text}", "{question}答案是{L}。"),
    "not used for tuning": (
        "综上，{L}最合适，{M}不合适。",
        "{M}？不是。{L}？是的。",
        "虽然很多人选{M}，但其实{L}才对。",
        "所以（{L}）。\n\n解释：（{M}）需要更多条件。",
        "我的答案是{L}，因为{M}与题意矛盾。",
        "本题应当选{L}项。",
        "由此可知{L}正确。",
        "{text}才是题目所问，与{M}不同。",
    ),
    "two choices": ("{L}和{M}都正确。",),
    "no choice": ("我不知道。", "题目不清楚，无法回答。"),
    "cut": ("我们逐项分析。{M}说的是",),
}


def english() -> Iterator[Case]:
    """Every template with every question and every letter."""
    return _cases(ENGLISH_TEMPLATES, ENGLISH)


def chinese() -> Iterator[Case]:
    """The same in Chinese."""
    return _cases(CHINESE_TEMPLATES, CHINESE)


def _cases(templates: Mapping[str, tuple[str, ...]], questions: Mapping[str, tuple[str, ...]]) -> Iterator[Case]:
    for kind, group in templates.items():
        for template in group:
            for number, (question, texts) in enumerate(questions.items()):
                options: dict[str, str] = dict(zip(LETTERS, texts, strict=True))
                for index, letter in enumerate(LETTERS):
                    shift = index + number % 3
                    other, third = LETTERS[(shift + 1) % 4], LETTERS[(shift + 2 + number % 3 // 2) % 4]
                    forms = {"L": letter, "l": letter.lower(), "W": chr(ord(letter) + 0xFEE0), "M": other, "N": third}
                    forms |= {"text": options[letter], "question": question}
                    forms["all"] = "\n".join(f"{key}. {text}" for key, text in options.items())
                    answer = "" if kind in ("two choices", "no choice", "cut") else letter
                    read = partial(choice, options=options, question=question)
                    yield Case(kind, template.format(**forms), answer, read)
