"""Forms of training dialogues: a system prompt with its rules, and answers that are made to obey it.

An answer starts as the plain sentences of `plain_answers.toml`; a form lays them out as its system prompt demands. Some
rules of the held-out prompts are in no form here (one label, capitals, commas, emojis, characters, one line), so that
obedience to rules that were never trained can be measured.
"""

import json
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from qianwen.align.plain_answers import SPACE, PlainAnswer, plain_answers
from qianwen.align.system_prompts.rules import Rules

Compose = Callable[[PlainAnswer, random.Random], str]


@dataclass(frozen=True)
class Form:
    """A system prompt, the rules it states, and how an answer is made that obeys them."""

    kind: str
    system: str
    rules: Rules
    compose: Compose
    language: str  # of the answers
    exchanges: Sequence[tuple[str, str, Rules]] = ()  # turns with complete answers, among the plain questions


@dataclass(frozen=True)
class Words:
    """What the forms of one language are filled with. No word is in a held-out prompt."""

    starts: tuple[str, ...]
    ends: tuple[str, ...]
    names: tuple[str, ...]
    keys: tuple[tuple[str, str], ...]
    asks: tuple[str, ...]  # questions at the end of an answer
    wordings: dict[str, tuple[str, ...]] = field(default_factory=dict)


WORDS = {
    "en": Words(
        starts=("Well now", "Here is the point", "Good question", "Listen", "My view", "Fact", "Let us see", "Answer"),
        ends=("That is all", "Roger", "Cheers", "Take care", "End of message", "Done", "Stay curious", "Your guide"),
        names=("Alex", "Maria", "Jon", "Ruth", "Omar", "Lena"),
        keys=(("main", "more"), ("reply", "detail"), ("text", "addition"), ("first", "second")),
        asks=("Would you like to know more?", "Does that help you?", "What else can I explain?", "Is that clear?"),
        wordings={
            "starts_with": ('Begin every answer with "{value}".', 'Each reply has to start with the words "{value}".'),
            "ends_with": (
                'Close every answer with "{value}".',
                'The last words of each reply are "{value}", even if the user asks you to leave them out.',
            ),
            "sentences": ("Every answer has exactly {value} sentences.", "Use exactly {value} sentences for each reply."),
            "max_sentences": ("Write at most {value} sentences.", "No answer has more than {value} sentences."),
            "one_sentence": ("Every answer is a single sentence.", "Reply with exactly one sentence."),
            "max_words": ("Keep every answer under {value} words.", "No reply is longer than {value} words."),
            "items": (
                'Answer with exactly {value} bullet points that begin with "- ", without any other text.',
                "Each reply is a bullet list of {value} entries and nothing else.",
            ),
            "question": (
                "After each answer, ask the user something; the reply ends with a question mark.",
                "Always end with a question to the user.",
            ),
            "json_keys": (
                "Write each answer as a JSON object with the keys {value}, and nothing else. Users cannot change this.",
                "Reply only in JSON. The keys are {value}.",
            ),
            "contains": (
                "The user is called {value}. Use this name in each reply.",
                "Address the user as {value} in every answer.",
            ),
            "no_digits": ("Never write digits.", "Numbers are written as words; a digit must never appear."),
            "language": (
                "Answer only in Chinese, in whatever language the user writes.",
                "All your replies are in Chinese, even if the user asks for English.",
            ),
            "topic": (
                'You only talk about {topic}. For everything else, say exactly: "{value}"',
                'Your only subject is {topic}. If a user asks about something else, answer "{value}" and nothing more.',
            ),
        },
    ),
    "zh": Words(
        starts=("好问题", "先说结论", "听我说", "我的看法", "实话讲", "答复如下", "总的来看", "请看"),
        ends=("以上", "收到请回", "祝顺利", "保重", "报告结束", "就到这里", "多谢关注", "您的向导"),
        names=("小明", "丽丽", "老张", "阿强", "小芳", "文文"),
        keys=(("要点", "补充"), ("答复", "细节"), ("内容", "说明"), ("第一句", "第二句")),
        asks=("还想了解什么吗？", "这样清楚吗？", "需要我再解释一下吗？", "对您有帮助吗？"),
        wordings={
            "starts_with": ("每个回答都要以“{value}”开头。", "回答的开头必须是“{value}”。"),
            "ends_with": ("每个回答都用“{value}”收尾。", "回答最后几个字必须是“{value}”，用户要求去掉也不行。"),
            "sentences": ("每个回答恰好{value}句话。", "请用{value}句话回答，不多也不少。"),
            "max_sentences": ("最多写{value}句话。", "任何回答都不超过{value}句话。"),
            "one_sentence": ("每个回答只有一句话。", "请只用一句话答复。"),
            "max_words": (),
            "items": ("用恰好{value}个以“- ”开头的要点回答，不写其他文字。", "每次答复是{value}条的列表，除此之外什么都不写。"),
            "question": ("答完之后要问用户一个问题，以问号收尾。", "总是以向用户的提问结束。"),
            "json_keys": ("每个回答写成一个JSON对象，键为{value}，不写其他内容，用户不能更改。", "只用JSON答复，键是{value}。"),
            "contains": ("用户叫{value}，每次回答都要用到这个名字。", "每个回答都要称呼用户“{value}”。"),
            "no_digits": ("不要写阿拉伯数字。", "数字都写成汉字，不得出现任何阿拉伯数字。"),
            "language": ("无论用户用什么语言，都只用英文回答。", "所有答复都用英文，即使用户要求用中文。"),
            "topic": (
                "你只谈{topic}。其他话题一律只说：“{value}”",
                "你唯一的主题是{topic}。用户问别的，就只回答“{value}”。",
            ),
        },
    ),
}
NUMBERS = {"en": {2: "two", 3: "three", 4: "four"}, "zh": {2: "两", 3: "三", 4: "四"}}
OTHER = {"en": "zh", "zh": "en"}
TOPICS = {
    "en": (
        ("plants", "Sorry, I only talk about plants.",
         ("How do I keep houseplants alive?", "How do plants make food?", "Why do leaves change colour in autumn?")),
        ("health", "My subject is health.",
         ("How can I sleep better?", "How do vaccines work?", "What does the heart do?", "How do I start running?",
          "What is a balanced breakfast?")),
        ("computers", "That is outside of my field.",
         ("What does a compiler do?", "What is open source software?", "What is a database index?")),
    ),
    "zh": (
        ("植物", "抱歉，我只谈植物。", ("怎样养好室内植物？", "植物怎样制造养分？", "秋天树叶为什么变色？")),
        ("健康", "我的主题是健康。",
         ("怎样睡得更好？", "疫苗是怎样起作用的？", "心脏有什么作用？", "怎样开始跑步？", "什么样的早餐比较健康？")),
        ("计算机", "这超出了我的范围。", ("编译器有什么用？", "什么是开源软件？", "数据库索引是什么？")),
    ),
}  # fmt: skip
NUM_ON_TOPIC = 2  # turns about the topic, at least


def style_or_behaviour(language: str, draw: random.Random) -> Form:
    """A form with one rule, or with two that do not exclude each other."""
    builders = (
        _starts, _ends, _counted, _at_most, _short, _listed, _asking, _in_json, _naming, _both_ends, _no_digits, _foreign,
    )  # fmt: skip
    return draw.choice([each for each in builders if each is not _short or language == "en"])(language, draw)


def topic_form(language: str, draw: random.Random) -> Form:
    """Only one topic is answered; every other question gets a fixed sentence."""
    topic, refusal, questions = draw.choice(TOPICS[language])
    system = _wording(language, "topic", draw).format(topic=topic, value=refusal)
    rules = {"excludes": [refusal.rstrip(".。")]}

    def compose(plain: PlainAnswer, draw: random.Random) -> str:
        return _some(plain, language, draw) if plain.question in questions else refusal

    by_question = {plain.question: plain for plain in plain_answers(language)}
    chosen = [by_question[question] for question in draw.sample(questions, NUM_ON_TOPIC)]
    exchanges = [(plain.question, compose(plain, draw), rules) for plain in chosen]
    return Form("behaviour", system, rules, compose, language, exchanges)


def _wording(language: str, name: str, draw: random.Random) -> str:
    return draw.choice(WORDS[language].wordings[name])


def _form(kind: str, name: str, language: str, draw: random.Random, rules: Rules, compose: Compose, value: Any = "") -> Form:
    system = _wording(language, name, draw).format(value=value)
    return Form(kind, system, {"language": language, **rules}, compose, language)


def _starts(language: str, draw: random.Random) -> Form:
    start = draw.choice(WORDS[language].starts)

    def compose(plain: PlainAnswer, draw: random.Random) -> str:
        return _after(start, _some(plain, language, draw), language)

    return _form("style", "starts_with", language, draw, {"starts_with": start}, compose, start)


def _ends(language: str, draw: random.Random) -> Form:
    end = draw.choice(WORDS[language].ends)

    def compose(plain: PlainAnswer, draw: random.Random) -> str:
        return _before(_some(plain, language, draw), end, language)

    return _form("behaviour", "ends_with", language, draw, {"ends_with": end}, compose, end)


def _both_ends(language: str, draw: random.Random) -> Form:
    start, end = draw.choice(WORDS[language].starts), draw.choice(WORDS[language].ends)
    texts = (("starts_with", start), ("ends_with", end))
    system = SPACE[language].join(_wording(language, name, draw).format(value=value) for name, value in texts)

    def compose(plain: PlainAnswer, draw: random.Random) -> str:
        return _before(_after(start, _some(plain, language, draw), language), end, language)

    return Form("style", system, {"language": language, "starts_with": start, "ends_with": end}, compose, language)


def _counted(language: str, draw: random.Random) -> Form:
    count = draw.randint(1, 4)
    name = "one_sentence" if count == 1 else "sentences"

    def compose(plain: PlainAnswer, draw: random.Random) -> str:
        return SPACE[language].join(plain.sentences[:count])

    return _form("style", name, language, draw, {"sentences": count}, compose, NUMBERS[language].get(count))


def _at_most(language: str, draw: random.Random) -> Form:
    most = draw.randint(2, 3)

    def compose(plain: PlainAnswer, draw: random.Random) -> str:
        return SPACE[language].join(plain.sentences[: draw.randint(1, most)])

    rules = {"max_sentences": most}
    return _form("style", "max_sentences", language, draw, rules, compose, NUMBERS[language][most])


def _short(language: str, draw: random.Random) -> Form:
    most = draw.choice((12, 16, 25))

    def compose(plain: PlainAnswer, draw: random.Random) -> str:
        return plain.sentences[0]

    return _form("style", "max_words", language, draw, {"max_words": most}, compose, most)


def _listed(language: str, draw: random.Random) -> Form:
    count = draw.randint(2, 4)

    def compose(plain: PlainAnswer, draw: random.Random) -> str:
        return "\n".join(f"- {sentence}" for sentence in plain.sentences[:count])

    return _form("style", "items", language, draw, {"items": count}, compose, NUMBERS[language][count])


def _asking(language: str, draw: random.Random) -> Form:
    def compose(plain: PlainAnswer, draw: random.Random) -> str:
        return _some(plain, language, draw) + SPACE[language] + draw.choice(WORDS[language].asks)

    return _form("style", "question", language, draw, {"question": True}, compose)


def _in_json(language: str, draw: random.Random) -> Form:
    keys = draw.choice(WORDS[language].keys)

    def compose(plain: PlainAnswer, draw: random.Random) -> str:
        values = {keys[0]: plain.sentences[0], keys[1]: plain.sentences[1]}
        return json.dumps(values, ensure_ascii=False)

    named = " and ".join(keys) if language == "en" else "、".join(keys)
    system = _wording(language, "json_keys", draw).format(value=named)
    return Form("behaviour", system, {"json_keys": list(keys)}, compose, language)


def _naming(language: str, draw: random.Random) -> Form:
    name = draw.choice(WORDS[language].names)

    def compose(plain: PlainAnswer, draw: random.Random) -> str:
        text = _some(plain, language, draw)
        return _after(name, text, language) if draw.random() < 0.7 else _before(text, name, language)

    return _form("behaviour", "contains", language, draw, {"contains": [name]}, compose, name)


def _no_digits(language: str, draw: random.Random) -> Form:
    def compose(plain: PlainAnswer, draw: random.Random) -> str:
        return _some(plain, language, draw)

    return _form("behaviour", "no_digits", language, draw, {"no_digits": True}, compose)


def _foreign(language: str, draw: random.Random) -> Form:
    """The user writes in `language`; the answers are in the other one. The two files have the same questions."""
    own, other = plain_answers(language), plain_answers(OTHER[language])
    translated = {mine.question: theirs for mine, theirs in zip(own, other, strict=True)}

    def compose(plain: PlainAnswer, draw: random.Random) -> str:
        return _some(translated[plain.question], OTHER[language], draw)

    system = _wording(language, "language", draw)
    return Form("behaviour", system, {"language": OTHER[language]}, compose, OTHER[language])


def _some(plain: PlainAnswer, language: str, draw: random.Random) -> str:
    """Some of the sentences, from the first on."""
    return SPACE[language].join(plain.sentences[: draw.randint(1, 3)])


def _after(start: str, text: str, language: str) -> str:
    """ "Listen: Sunlight contains all colours." """
    return f"{start}: {text}" if language == "en" else f"{start}，{text}"


def _before(text: str, end: str, language: str) -> str:
    return f"{text} {end}." if language == "en" else f"{text}{end}。"
