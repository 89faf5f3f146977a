"""Precision and recall of personal data on labelled strings of prose, program text and mathematics.

    python benchmarks/personal_data.py [--strings 4000] [--seed 1] [--json PATH]

A string is a template with one value, and a label: the kind of personal data the value is, or none. Values are random
but valid (checksums, lengths of numbers by country). A string is right if exactly the value is replaced by its kind, or
nothing where there is none. Templates are in two halves, and the rules were only ever changed by what the first shows:
the second is held out.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterator
from typing import NamedTuple

from pairs import arguments, console
from rich.table import Table

from qianwen.data.documents.pii import scrub

NAMES_TEXT = """
    anna.kovacs lwei99 j_smith maria-lopez tom.o.brien hans.mueller+news zhangsan yuki.tanaka fatima.z olu2024
"""
NAMES = NAMES_TEXT.split()
PLACES_TEXT = """
    gmail.com 163.com qq.com web.de uni-jena.de foo.co.uk mail.ru naver.com yahoo.co.jp univ-lille.fr unimi.it
    uol.com.br posteo.net proton.me startup.io lab.ai acme.biz kth.se school.edu.cn city.gov.au shop.online
    consulting.berlin
"""
PLACES = PLACES_TEXT.split()
# Numbers as people write them; # is any digit, N one from 2 to 9.
FORMS = """
    +1 N## N## ####; +1-N##-N##-####; +1N##N######; (N##) N##-####; N##-N##-####; N##.N##.####; +44 20 7### ####;
    +44 7### ######; 020 7### ####; 07### ######; +49 30 ########; +49 17# #######; +33 1 4# ## ## ##;
    +33 6 ## ## ## ##; +34 6## ## ## ##; +39 06 #### ####; +39 3## ### ####; +31 6 ########; +46 70 ### ## ##;
    +48 5## ### ###; +7 9## ###-##-##; +7 (495) ###-##-##; +86 13# #### ####; +86-15#########; 13# #### ####;
    18#-####-####; 010-6#######; 0571-8#######; +81 3-3###-####; +81 90-####-####; 090-####-####; 03-3###-####;
    +82 10-####-####; 010-####-####; 02-3##-####; +91 9#### #####; +91-98########; +55 11 9####-####;
    +52 55 #### ####; +61 4## ### ###; (02) 9### ####; +64 21 ### ####; +27 82 ### ####; +234 80# ### ####;
    +971 50 ### ####; +972 54-###-####; +90 53# ### ## ##; +84 9# ### ## ##; +66 8# ### ####; +65 9### ####;
    +886 9## ### ###; +852 9### ####; +353 87 ### ####; +380 67 ### ## ##; +20 10# ### ####; +254 7## ######;
"""
PHONES = tuple(form.strip() for form in FORMS.split(";") if form.strip())
LOCAL = (
    "01 4# ## ## ##",
    "98### #####",
    "6## ## ## ##",
    "0# #### ####",
    "#######",
    "9### ####",
    "138########",
)  # after a word

SAID = (  # first half, second half: where personal data is
    ("Please write to {} before Friday.", "You can reach the editor at {}, she answers within a day."),
    ("Reach me: {}", "Contact\n{}\nMonday to Friday"),
    ("联系：{}，谢谢。", "有问题请找{}。"),
    ("# maintainer: {}", "// written by A. Weber, {}"),
    ("<li>{}</li>", 'data-owner="{}"'),
    ("Signed, Anna ({})", "Name: Anna; {}; Lille"),
    ("Le service répond au {} le matin.", "Bitte wenden Sie sich an {} in Jena."),
    ("* {} : office", "| {} | room 12 |"),
)
DIALLED = (
    ("Tel: {}", "Phone {}"), ("电话：{}", "手机{}"), ("Tél. : {}", "Telefon: {}"), ("call {} now", "Fax: {}"),
    ("電話 {}", "тел. {}"),
)  # fmt: skip
CHINESE_MOBILE = (
    ("我的号码是{}，请保存。", "王经理{}"),
    ("张三({})", "客服 {} 全天在线"),
    ("报名：{}", "联系人李四，{}"),
)


class Kind(NamedTuple):
    """A way of making values, and the templates they are put in."""

    label: str
    subject: str  # prose, code, mathematics
    value: Callable[[random.Random], str]
    templates: tuple[tuple[str, str], ...]


class Labelled(NamedTuple):
    text: str
    expected: str  # what is left of it
    label: str
    subject: str


def _digits(rng: random.Random, form: str) -> str:
    return "".join(
        str(rng.randrange(10)) if mark == "#" else str(rng.randrange(2, 10)) if mark == "N" else mark for mark in form
    )


def _email(rng: random.Random) -> str:
    return f"{rng.choice(NAMES)}@{rng.choice(PLACES)}"


def _phone(rng: random.Random) -> str:
    return _digits(rng, rng.choice(PHONES))


def _chinese_id(rng: random.Random) -> str:
    born = f"{rng.randrange(1940, 2015)}{rng.randrange(1, 13):02}{rng.randrange(1, 29):02}"
    body = f"{rng.choice(['110105', '310104', '440106', '510107'])}{born}{rng.randrange(1000):03}"
    weights = (7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2)
    return body + "10X98765432"[sum(w * int(d) for w, d in zip(weights, body, strict=True)) % 11]


def _card(rng: random.Random) -> str:
    body = _digits(rng, rng.choice(["4##############", "5412###########", "622202#########"]))
    total = sum(sum(divmod(2 * int(d), 10)) if i % 2 == 0 else int(d) for i, d in enumerate(body))
    digits = body + str(-total % 10)
    return rng.choice([digits, " ".join(digits[i : i + 4] for i in range(0, 16, 4))])


def _iban(rng: random.Random) -> str:
    country, form = rng.choice(
        [("DE", "#" * 18), ("GB", "WEST" + "#" * 14), ("FR", "#" * 23), ("NL", "ABNA" + "#" * 10)]
    )
    body = _digits(rng, form)
    number = int("".join(str(int(c, 36)) for c in body + country + "00"))
    return f"{country}{98 - number % 97:02}{body}"


def _integer(rng: random.Random) -> str:
    """A large whole number: a power, a product, a count of bytes, or any with 8 to 17 digits."""
    return str(
        rng.choice(
            [2 ** rng.randrange(24, 60), 10 ** rng.randrange(7, 16), 3 ** rng.randrange(17, 35)]
            + [rng.randrange(10**size, 10 ** (size + 1)) for size in (7, 9, 10, 10, 10, 12, 14)]
            + [rng.randrange(13 * 10**9, 20 * 10**9) for _ in range(4)]
        )
    )


def _decimal(rng: random.Random) -> str:
    sign = rng.choice("+-+")
    return f"{sign}{rng.randrange(1, 100)}.{rng.randrange(10**5, 10 ** rng.randrange(6, 11)):05}"


def _stamp(rng: random.Random) -> str:
    date = (rng.randrange(1970, 2035), rng.randrange(1, 13), rng.randrange(1, 29))
    forms = (
        "{:04}{:02}{:02}",
        "+{:04}{:02}{:02}",
        "{:04}-{:02}-{:02} 10:20:30",
        "{:04}.{:02}.{:02}",
        "{:04}{:02}{:02}123059",
    )
    return rng.choice(forms).format(*date)


def _product(rng: random.Random) -> str:
    left, right = rng.choice("xyqAKQ"), rng.choice(["self", "layer", "params", "np", "W", "other"])
    rest = rng.choice(
        ["weight.T", "linalg.inv(a)", "mT", "W.T", "weight", "data", "q_proj.weight", "to(device)", "transpose(0, 1)",
         "mean()",
         "int()", "value", "grad.data", "tril", "W_out", "view(-1)"]
    )  # fmt: skip
    return f"{left}@{right}.{rest}"


def _at_sign(rng: random.Random) -> str:
    size = rng.randrange(2, 4)
    forms = (
        "git@github.com:{a}/{b}.git", "git@gitlab.com:{a}/{b}",
        "ssh://git@host.org:22/{a}", "{b}@{s}x.png", "{a}-icon@{s}x.webp",
        "@{a}.route", "lodash@4.17.2{s}", "golang.org/x/{a}@v0.1{s}.0", "getty@tty{s}.service", "user@{a}.local",
        "deploy@server.org:/var/www/{a}", "postgres://app:pw@db.{a}.net:5432/x",
        "{a}@sha256:9f86d081884c7d65", "root@{a}:~#",
        "HEAD@{{{s}}}", "{a}@example.com", "me@test.example.org", "@media.screen", "{a}@localhost", "npm i {a}@next",
    )  # fmt: skip
    return rng.choice(forms).format(
        a=rng.choice(["core", "tools", "docs"]), b=rng.choice(["heads", "logo", "app"]), s=size
    )


def _identifier(rng: random.Random) -> str:
    byte = lambda: rng.randrange(256)  # noqa: E731
    forms = (
        lambda: f"{byte()}.{byte()}.{byte()}.{byte()}",
        lambda: f"978-{rng.randrange(10)}-{rng.randrange(10, 99)}-{rng.randrange(10**5, 10**6)}-{rng.randrange(10)}",
        lambda: f"10.{rng.randrange(1000, 9999)}/{rng.randrange(10**7, 10**8)}",
        lambda: f"{rng.randrange(1000, 2999)}.{rng.randrange(10**4, 10**5)}",
        lambda: f"0x{rng.randrange(16**12):012x}",
        lambda: f"{rng.randrange(16**8):08x}-4f3a-9c5a-{rng.randrange(10**12):012}",
        lambda: f"v{rng.randrange(9)}.{rng.randrange(30)}.{rng.randrange(10**4, 10**6)}",
        lambda: f"{rng.randrange(10**9, 10**12):,}",
        lambda: f"{rng.randrange(1, 99)} {rng.randrange(100, 1000)} {rng.randrange(100, 1000)}",
        lambda: " ".join(f"{byte():02d}" for _ in range(rng.randrange(6, 12))),
        lambda: f"{rng.randrange(10**5, 10**9)}-{rng.randrange(10**5, 10**6)}",
        lambda: f"#{rng.randrange(10**6, 10**9)}",
    )  # fmt: skip
    return rng.choice(forms)()


KINDS = (
    Kind("EMAIL", "prose", _email, SAID),
    Kind("PHONE", "prose", _phone, SAID),
    Kind("PHONE", "prose", lambda rng: _digits(rng, rng.choice(LOCAL)), DIALLED),
    Kind("PHONE", "prose", lambda rng: _digits(rng, "1" + rng.choice("3589") + "#########"), CHINESE_MOBILE),
    Kind("ID", "prose", _chinese_id, (("身份证{}。", "证件号：{}"), ("ID card {} checked", "id {}"))),
    Kind("CARD", "prose", _card, (("card {} expired", "卡号 {}"), ("I paid with {} twice.", "Visa: {}"))),
    Kind("IBAN", "prose", _iban, (("IBAN {}", "Konto: {}"), ("Transfer to {} please.", "收款账号 {}。"))),
    Kind(
        "",
        "code",
        _integer,
        (("LIMIT = {}", "if size > {}:"), ("x = [{}, 1]", "return {} % m"), ("{{'id': {}}}", "seed({})")),
    ),
    Kind(
        "",
        "mathematics",
        _integer,
        (("$n = {}$", "the product is {}."), ("{} is even", "2^k = {}"), ("约为{}个", "共{}字节")),
    ),
    Kind(
        "",
        "prose",
        _integer,
        (("The disk has {} bytes.", "A total of {} people"), ("in line {} of it", "order {} arrived")),
    ),
    Kind(
        "",
        "mathematics",
        _decimal,
        (("x = {}", "(0.5, {})"), ("converges to {}", "offset {} degrees"), ("[{}, 1]", "y: {}")),
    ),
    Kind("", "code", _stamp, (("date {}", "build-{}"), ("log {} start", "backup {} done"), ("({})", "at {} UTC"))),
    Kind(
        "",
        "code",
        _product,
        (("out = {}", "return {} + b"), ("({})", "z = f({})"), ("y = {}  # product", "assert {} is not None")),
    ),
    Kind("", "code", _at_sign, (("git clone {}", "see {} for it"), ("src = '{}'", "run {}"), ("{}", "- {}"))),
    Kind(
        "",
        "prose",
        _identifier,
        (("see {} for details", "number {}"), ("({})", "listed as {}."), ("{}", "at {} again")),
    ),
)


def labelled(count: int, seed: int, *, half: int) -> Iterator[Labelled]:
    """Strings of one half of the templates: each kind as often, in an order that the seed decides."""
    rng = random.Random(seed * 2 + half)
    for number in range(count):
        kind = KINDS[number % len(KINDS)]
        value, template = kind.value(rng), rng.choice(kind.templates)[half]
        expected = template.format(f"[{kind.label}]") if kind.label else template.format(value)
        yield Labelled(template.format(value), expected, kind.label, kind.subject)


def measure(strings: Iterator[Labelled]) -> tuple[dict[str, dict[str, int]], list[Labelled]]:
    """By kind and subject: right, missed, wrong replacements; and the strings that were not right."""
    counts: dict[str, Counter[str]] = {}
    wrong: list[Labelled] = []
    for string in strings:
        scrubbed = scrub(string.text)
        is_right = scrubbed.text == string.expected
        outcome = (
            ("found" if string.label else "left") if is_right else "missed" if scrubbed.text == string.text else "wrong"
        )
        counts.setdefault(string.label or f"none, {string.subject}", Counter())[outcome] += 1
        if not is_right:
            wrong.append(string)
    return {name: dict(outcomes) for name, outcomes in sorted(counts.items())}, wrong


def precision_recall(counts: dict[str, dict[str, int]]) -> tuple[float, float]:
    """Of what was replaced, the share that was personal data; of personal data, the share that was replaced."""
    total: Counter[str] = Counter()
    for outcomes in counts.values():
        total.update(outcomes)
    found = total["found"]
    return found / max(found + total["wrong"], 1), found / max(found + total["missed"] + total["wrong"], 1)


def main() -> None:
    options = arguments(__doc__, strings=4000, seed=1, show=0)
    numbers: dict[str, object] = {}
    for half, name in enumerate(("first half", "held out")):
        counts, wrong = measure(labelled(options.strings // 2, options.seed, half=half))
        table = Table("label", "strings", "right", "missed", "wrong", title=name)
        for label, outcomes in counts.items():
            right = outcomes.get("found", 0) + outcomes.get("left", 0)
            missed, bad = outcomes.get("missed", 0), outcomes.get("wrong", 0)
            table.add_row(label, *map(str, (sum(outcomes.values()), right, missed, bad)))
        console.print(table)
        precision, recall = precision_recall(counts)
        console.print(f"{name}: precision {precision:.4f}, recall {recall:.4f}")
        numbers[name] = {"precision": precision, "recall": recall, "counts": counts}
        for string in wrong[: options.show if half == 0 else 0]:
            console.print(f"  {string.label or 'none'}: {string.text!r} → {scrub(string.text).text!r}", markup=False)
    if options.json:
        import json

        options.json.write_text(json.dumps(numbers, indent=1))


if __name__ == "__main__":
    main()
