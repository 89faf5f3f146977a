"""The services of the agent tasks: small tables behind typed functions, so that each task has one right answer.

Nothing here can be known or guessed: the model has to call. The date is fixed.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from typing import Any, TypeVar

from qianwen.runtime.errors import ToolError

Value = TypeVar("Value")

TODAY = date(2026, 3, 14)
PRICES = {"desk lamp": 23.85, "mechanical keyboard": 129.50, "office chair": 189.00, "monitor": 312.40}
STOCK = {"desk lamp": 52, "mechanical keyboard": 7, "office chair": 0, "monitor": 15}
RATES = {("USD", "EUR"): 0.8734, ("USD", "CNY"): 7.1265, ("EUR", "CNY"): 8.1595}
WEATHER = {"北京": -3.5, "广州": 21.8, "武汉": 16.2, "上海": 9.4, "成都": 12.7}
POPULATION = {"北京": 21_843_000, "广州": 18_734_000, "武汉": 13_739_000, "上海": 24_759_000, "成都": 21_268_000}
DEPARTMENTS = {"Nadia Karim": "Logistics", "Tom Becker": "Finance", "Yuki Mori": "Design"}
HEADS = {"Logistics": "Olga Petrova", "Finance": "Samuel Osei", "Design": "Ines Duarte"}
PHONES = {"Olga Petrova": "555-0187", "Samuel Osei": "555-0142", "Ines Duarte": "555-0163", "Nadia Karim": "555-0119"}
BOOKS = {"The Glass Harbour": "B-2047", "Winter Maps": "B-3310", "A Field of Clocks": "B-1188"}
COPIES = {"B-2047": 2, "B-3310": 0, "B-1188": 5}
RESERVATIONS = {"B-2047": "R-70615", "B-1188": "R-70616"}
TRACKING = {"A1024": "SF7788120", "A1025": "SF7788131", "A1031": "SF7788402"}
PARCELS = {"SF7788120": "武汉", "SF7788131": "成都", "SF7788402": "上海"}
DISTANCES = {frozenset({"Lyon", "Turin"}): 314.0, frozenset({"Lyon", "Geneva"}): 149.0}
PETROL = {"France": 1.84, "Italy": 1.79, "Switzerland": 1.95}
SCORES = {("李雷", "语文"): 87.0, ("李雷", "数学"): 94.5, ("李雷", "英语"): 79.0, ("王芳", "数学"): 88.0}


def get_price(product: str) -> float:
    """The price of one piece of a product of our shop, in US dollars.

    Args:
        product: name of the product, such as "monitor"
    """
    return _find(PRICES, product.lower(), product)


def get_stock(product: str) -> int:
    """How many pieces of a product are in stock.

    Args:
        product: name of the product, such as "monitor"
    """
    return _find(STOCK, product.lower(), product)


def exchange_rate(source: str, target: str) -> float:
    """How much one unit of the source currency is in the target currency.

    Args:
        source: three-letter code, such as "USD"
        target: three-letter code, such as "EUR"
    """
    source, target = source.upper(), target.upper()
    if (target, source) in RATES:
        return round(1 / RATES[target, source], 4)
    return _find(RATES, (source, target), f"{source} to {target}")


def weather(city: str) -> str:
    """某个城市现在的天气。

    Args:
        city: 城市名，例如 "上海"
    """
    return f"{city}现在的气温是 {_find(WEATHER, city.removesuffix('市'), city)} 摄氏度"


def population(city: str) -> int:
    """某个城市的常住人口。

    Args:
        city: 城市名，例如 "上海"
    """
    return _find(POPULATION, city.removesuffix("市"), city)


def today() -> str:
    """The date of today, as YYYY-MM-DD."""
    return TODAY.isoformat()


def days_between(start: str, end: str) -> int:
    """The number of days from one date to a later one.

    Args:
        start: date as YYYY-MM-DD
        end: date as YYYY-MM-DD
    """
    try:
        return (date.fromisoformat(end) - date.fromisoformat(start)).days
    except ValueError as error:
        raise ToolError(f"{error}; write dates as YYYY-MM-DD, such as {TODAY.isoformat()}") from None


def employee_department(name: str) -> str:
    """The department in which an employee works.

    Args:
        name: first and last name of the employee
    """
    return _find(DEPARTMENTS, name, name)


def department_head(department: str) -> str:
    """The name of the head of a department.

    Args:
        department: name of the department, such as "Design"
    """
    return _find(HEADS, department.removesuffix(" department").title(), department)


def phone_number(name: str) -> str:
    """The telephone number of a person of our company.

    Args:
        name: first and last name of the person
    """
    return _find(PHONES, name, name)


def find_book(title: str) -> str:
    """The book id of a title in the library's catalogue.

    Args:
        title: the whole title
    """
    return _find(BOOKS, title, title)


def available_copies(book_id: str) -> int:
    """How many copies of a book are on the shelf now.

    Args:
        book_id: id from the catalogue, such as "B-1188"
    """
    return _find(COPIES, book_id.upper(), book_id)


def reserve_book(book_id: str) -> str:
    """Reserve a copy of a book for the reader. Returns the number of the reservation.

    Args:
        book_id: id from the catalogue, such as "B-1188"
    """
    return f"reservation number {_find(RESERVATIONS, book_id.upper(), book_id)}"


def tracking_number(order_id: str) -> str:
    """查询订单的快递单号。

    Args:
        order_id: 订单号，例如 "A1031"
    """
    return _find(TRACKING, order_id.upper(), order_id)


def parcel_city(tracking_number: str) -> str:
    """查询包裹现在所在的城市。

    Args:
        tracking_number: 快递单号，以 SF 开头
    """
    return _find(PARCELS, tracking_number.upper(), tracking_number)


def distance_km(origin: str, destination: str) -> float:
    """The distance between two cities by road, in kilometres.

    Args:
        origin: name of a city
        destination: name of a city
    """
    return _find(DISTANCES, frozenset({origin.title(), destination.title()}), f"{origin} to {destination}")


def petrol_price(country: str) -> float:
    """The price of one litre of petrol in a country, in euros.

    Args:
        country: name of the country in English
    """
    return _find(PETROL, country.title(), country)


def exam_score(student: str, subject: str) -> float:
    """查询一个学生一门课的考试成绩。

    Args:
        student: 学生姓名
        subject: 课程，例如 "数学"
    """
    return _find(SCORES, (student, subject), f"{student} {subject}")


def class_size(grade: str) -> int:
    """查询一个班的学生人数。

    Args:
        grade: 班级，例如 "三年级二班"
    """
    return _find({"三年级二班": 42, "三年级一班": 39}, grade, grade)


def _find(table: Mapping[Any, Value], key: Any, written: str) -> Value:
    """An entry of a table, or an error that the model can read."""
    if key not in table:
        known = sorted(each if isinstance(each, str) else " to ".join(sorted(each)) for each in table)
        raise ToolError(f"not found: {written!r}; known are: {', '.join(known)}")
    return table[key]
