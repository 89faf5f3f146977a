import pytest

from qianwen.chat.chinese_numerals import last_numeral


@pytest.mark.parametrize(
    ("numeral", "value"),
    [
        ("九", "9"),
        ("十", "10"),
        ("十八", "18"),
        ("二十", "20"),
        ("一百零五", "105"),
        ("一百五", "150"),
        ("两千", "2000"),
        ("一千零五十", "1050"),
        ("三万五", "35000"),
        ("三万零五", "30005"),
        ("一亿二千万", "120000000"),
        ("五亿零三", "500000003"),
        ("一万二千三百亿", "1230000000000"),
        ("十八点五", "18.5"),
        ("二〇二四", "2024"),
        ("贰佰叁拾", "230"),
    ],
)
def test_numerals(numeral: str, value: str) -> None:
    assert last_numeral(f"先是三个，最后共{numeral}元") == value


def test_without_a_numeral_there_is_no_number() -> None:
    assert last_numeral("没有数字 12") == ""
