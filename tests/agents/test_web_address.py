"""Addresses are read in one way, and every form of an address that is not public is known."""

import pytest

from qianwen.agents.web_address import is_public, read_address
from qianwen.runtime.errors import ToolError

PUBLIC = ["8.8.8.8", "93.184.216.34", "2606:2800:220:1::1", "::ffff:8.8.8.8", "64:ff9b::8.8.8.8"]
NOT_PUBLIC = [
    *("127.0.0.1", "127.255.0.3", "0.0.0.0", "0.1.2.3", "10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.1.1"),
    *("169.254.169.254", "100.64.0.1", "192.0.0.1", "192.0.2.1", "198.18.0.1", "198.51.100.1", "203.0.113.1"),
    *("224.0.0.1", "239.255.255.250", "240.0.0.1", "255.255.255.255"),
    *("::1", "::", "fe80::1", "fe80::1%lo", "fc00::1", "fd12:3456::1", "fec0::1", "ff02::1", "2001:db8::1", "100::1"),
    *("::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:169.254.169.254", "::127.0.0.1", "64:ff9b::127.0.0.1"),
    *("64:ff9b::a9fe:a9fe", "64:ff9b:1::1", "2002:7f00:1::", "2002:a00:1::1", "2001:0:7f00:1::", "::ffff:0:127.0.0.1"),
    *("", "localhost", "127.1", "2130706433"),
]


@pytest.mark.parametrize("address", PUBLIC)
def test_addresses_of_the_internet_are_public(address: str):
    assert is_public(address)


@pytest.mark.parametrize("address", NOT_PUBLIC)
def test_every_other_address_is_not(address: str):
    assert not is_public(address)


@pytest.mark.parametrize(
    ("url", "written"),
    [
        ("https://a.example", "https://a.example/"),
        ("HTTP://A.Example:80/x?y=1&z[]=2#part", "http://a.example/x?y=1&z[]=2"),
        (" http://a.example:8080/ ", "http://a.example:8080/"),
        ("http://[::1]:81/x", "http://[::1]:81/x"),
        ("https://a.example/北京 天气?q=上海", "https://a.example/%E5%8C%97%E4%BA%AC%20%E5%A4%A9%E6%B0%94?q=%E4%B8%8A%E6%B5%B7"),
        ("https://bücher.example/", "https://xn--bcher-kva.example/"),
        ("http://１２７.０.０.１/", "http://127.0.0.1/"),
        ("http://a.example?q=1", "http://a.example/?q=1"),
        ("http://a.example#@127.0.0.1:80/", "http://a.example/"),
        ("http://a.example/%2e%2e/x", "http://a.example/%2e%2e/x"),
    ],
)  # fmt: skip
def test_an_address_is_written_as_it_is_sent(url: str, written: str):
    address = read_address(url)
    assert str(address) == written
    assert read_address(written) == address


@pytest.mark.parametrize(
    "url",
    [
        *("", "a.example", "//a.example", "/etc/passwd", "file:///etc/passwd", "ftp://a.example", "gopher://a.example"),
        *("data:text/plain,x", "javascript:alert(1)", "unix:///run/x", "jar:http://a!/", "dict://a:1/", "ldap://a/"),
        *(
            "http://",
            "http:///x",
            "http://:80/",
            "http://a.example:0/",
            "http://a.example:99999/",
            "http://a.example:x/",
        ),
        *("http://user@a.example/", "http://user:pw@a.example/", "http://@a.example/", "http://a.example@b.example/"),
        *("http://a.example\\@b.example/", "http:\\\\a.example", "http://a.example/\\..", "http://a b.example/"),
        *("http://a.example/\r\nHost: b", "http://a.example/\tx", "http://a\n.example/", "http://a.example/\0"),
        *("http://a..example/", "http://%6c%6fcalhost/", "http://[::1/", "http://[fe80::1%25lo]/", "http://[v1.a]/"),
        *(
            "http://a.example/\u200b",
            "http://a\u2024example／x@b/",
            "http://a.example/\ud800",
            "http://" + "a" * 300 + "/",
        ),
    ],
)
def test_what_programs_read_differently_is_refused(url: str):
    with pytest.raises(ToolError, match="not an address"):
        read_address(url)
