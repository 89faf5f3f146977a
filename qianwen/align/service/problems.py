"""Problems that a program solves, with numbers so large that nobody computes them in the head."""

import random
from collections.abc import Callable, Sequence
from typing import NamedTuple


class Problem(NamedTuple):
    """A question, the program that answers it, and the answer with {0}, {1}, … for the printed lines."""

    question: str
    program: str
    answer: str
    broken: str = ""  # the same program with an error in it


def savings(draw: random.Random, language: str) -> Problem:
    amount, rate, years = draw.randrange(1200, 98000, 100), draw.choice((1.5, 2.4, 3.1, 4.75)), draw.randint(4, 30)
    program = f"amount = {amount}\nfor year in range({years}):\n    amount *= 1 + {rate} / 100\nprint(round(amount, 2))"
    return Problem(
        {
            "en": f"I put {amount} into an account with {rate}% interest a year. How much is it after {years} years?",
            "zh": f"我存入{amount}元，年利率{rate}%，复利计算，{years}年后有多少钱？",
        }[language],
        program,
        {"en": f"After {years} years it is {{0}}.", "zh": f"{years}年后共有{{0}}元。"}[language],
        program.replace("amount *=", "amounts *="),
    )


def statistics(draw: random.Random, language: str) -> Problem:
    values = [draw.randint(12, 990) for _ in range(draw.randint(7, 12))]
    program = (
        f"import statistics\n\nvalues = {values}\nprint(round(statistics.mean(values), 2))\n"
        "print(statistics.median(values))\nprint(round(statistics.stdev(values), 2))"
    )
    listed = ", ".join(map(str, values))
    return Problem(
        {
            "en": f"Give me the mean, median and standard deviation of {listed}.",
            "zh": f"请计算这些数的平均数、中位数和标准差：{listed}。",
        }[language],
        program,
        {
            "en": "The mean is {0}, the median {1} and the standard deviation {2}.",
            "zh": "平均数是{0}，中位数是{1}，标准差是{2}。",
        }[language],
        program.replace("statistics.mean", "statistics.average"),
    )


def table(draw: random.Random, language: str) -> Problem:
    names = draw.sample(NAMES[language], 5)
    rows = [(name, draw.randint(3, 60), draw.randrange(150, 2500, 5) / 10) for name in names]
    head = {"en": "product,sold,price", "zh": "商品,数量,单价"}[language]
    text = "\n".join([head, *(f"{name},{count},{price}" for name, count, price in rows)])
    program = (
        f'import csv\nimport io\n\ntext = """{text}"""\nrows = list(csv.reader(io.StringIO(text)))[1:]\n'
        "income = {name: int(sold) * float(price) for name, sold, price in rows}\n"
        "best = max(income, key=income.get)\nprint(round(sum(income.values()), 2))\nprint(best)\n"
        "print(round(income[best], 2))"
    )
    return Problem(
        {
            "en": f"Here is a table:\n{text}\nWhat is the total income, and which product earned most?",
            "zh": f"下面是一张表：\n{text}\n总收入是多少？哪种商品收入最高？",
        }[language],
        program,
        {
            "en": "The total income is {0}. The best product is {1}, with {2}.",
            "zh": "总收入是{0}，收入最高的是{1}，为{2}。",
        }[language],
        program.replace("int(sold) * float(price)", "sold * price"),
    )


def primes(draw: random.Random, language: str) -> Problem:
    low = draw.randint(1000, 40000)
    high = low + draw.randint(400, 3000)
    program = (
        "def is_prime(number):\n    return number > 1 and all(number % d for d in range(2, int(number**0.5) + 1))\n\n"
        f"primes = [number for number in range({low}, {high + 1}) if is_prime(number)]\n"
        "print(len(primes))\nprint(primes[-1])"
    )
    return Problem(
        {
            "en": f"How many prime numbers are there from {low} to {high}, and what is the largest?",
            "zh": f"从{low}到{high}有多少个质数？最大的是几？",
        }[language],
        program,
        {"en": "There are {0} prime numbers; the largest is {1}.", "zh": "共有{0}个质数，最大的是{1}。"}[language],
    )


def dates(draw: random.Random, language: str) -> Problem:
    first = (draw.randint(1951, 1999), draw.randint(1, 12), draw.randint(1, 28))
    last = (draw.randint(2005, 2025), draw.randint(1, 12), draw.randint(1, 28))
    days = {
        "en": ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"],
        "zh": ["星期一", "星期二", "星期三", "星期四", "星期五", "星期六", "星期日"],
    }[language]
    program = (
        f"from datetime import date\n\nfirst, last = date{first}, date{last}\nprint((last - first).days)\n"
        f"print({days}[last.weekday()])"
    )
    names = ["-".join(f"{part:02}" for part in each) for each in (first, last)]
    return Problem(
        {
            "en": f"How many days are between {names[0]} and {names[1]}, and which day of the week is the second date?",
            "zh": f"{names[0]}和{names[1]}之间相差多少天？后一天是星期几？",
        }[language],
        program,
        {
            "en": f"They are {{0}} days apart, and {names[1]} is a {{1}}.",
            "zh": f"相差{{0}}天，{names[1]}是{{1}}。",
        }[language],
        program.replace("from datetime import date\n\n", ""),
    )


def divisors(draw: random.Random, language: str) -> Problem:
    first, second = (draw.randint(40, 900) * draw.choice((6, 12, 35)) for _ in range(2))
    program = f"import math\n\nprint(math.gcd({first}, {second}))\nprint(math.lcm({first}, {second}))"
    return Problem(
        {
            "en": f"What are the greatest common divisor and the least common multiple of {first} and {second}?",
            "zh": f"{first}和{second}的最大公约数和最小公倍数是多少？",
        }[language],
        program,
        {
            "en": "The greatest common divisor is {0}, the least common multiple is {1}.",
            "zh": "最大公约数是{0}，最小公倍数是{1}。",
        }[language],
        program.replace("math.gcd", "math.greatest_common_divisor"),
    )


def equations(draw: random.Random, language: str) -> Problem:
    x, y = draw.randint(-40, 40), draw.randint(-40, 40)
    a, b, c, d = draw.choice(((3, 5, 7, -2), (4, -3, 2, 9), (6, 1, -5, 4), (8, 3, 3, -7)))
    right = (a * x + b * y, c * x + d * y)
    program = (
        f"a, b, c, d, e, f = {a}, {b}, {c}, {d}, {right[0]}, {right[1]}\ndeterminant = a * d - b * c\n"
        "print((e * d - b * f) / determinant)\nprint((a * f - e * c) / determinant)"
    )
    written = f"{a}x + {b}y = {right[0]}, {c}x + {d}y = {right[1]}".replace("+ -", "- ")
    return Problem(
        {"en": f"Solve for x and y: {written}.", "zh": f"解方程组：{written}。"}[language],
        program,
        {"en": "The solution is x = {0}, y = {1}.", "zh": "解为 x = {0}，y = {1}。"}[language],
        program.replace("determinant = a", "determinate = a"),
    )


def letters(draw: random.Random, language: str) -> Problem:
    words = " ".join(draw.choices(NAMES[language], k=draw.randint(14, 22)))
    program = (
        f'from collections import Counter\n\ncounts = Counter("{words}".split())\n'
        "word, count = counts.most_common(1)[0]\n"
        "print(len(counts))\nprint(word)\nprint(count)"
    )
    return Problem(
        {
            "en": f"Count the words in this text: {words}. How many different ones are there, "
            "and which is most frequent?",
            "zh": f"统计这段文字里的词：{words}。有多少个不同的词？哪个出现最多？",
        }[language],
        program,
        {
            "en": 'There are {0} different words. The most frequent is "{1}", {2} times.',
            "zh": "共有{0}个不同的词，出现最多的是“{1}”，{2}次。",
        }[language],
        program.replace("counts.most_common(1)", "counts.most_frequent(1)"),
    )


NAMES = {
    "en": ["apples", "tea", "lamps", "chairs", "soap", "rice", "pens", "cups", "shoes"],
    "zh": ["苹果", "茶叶", "台灯", "椅子", "肥皂", "大米", "钢笔", "杯子", "鞋子"],
}
PROBLEMS: Sequence[Callable[[random.Random, str], Problem]] = (
    savings, statistics, table, primes, dates, divisors, equations, letters,
)  # fmt: skip
BREAKABLE = tuple(problem for problem in PROBLEMS if problem is not primes)
