"""Addresses of the same page are equal, and a blocklist names hosts, folders and pages."""

from pathlib import Path

from qianwen.data.documents.exclusions import blocklist, is_blocked, url_key


def test_pages_are_the_same_whatever_way_they_were_reached() -> None:
    assert url_key("https://www.A.com:443/b/#c") == url_key("http://a.com/b") != url_key("http://a.com/b?x=1")
    assert url_key("http://[bad") == "http://[bad"


def test_a_blocklist_names_hosts_folders_and_pages(tmp_path: Path) -> None:
    (tmp_path / "list").write_text(
        "# no\nbad.com\n0.0.0.0 ads.example.com # as in a hosts file\n\nhttps://www.a.com/private/\nb.com/one.html\n"
    )
    blocked = blocklist(tmp_path / "list")
    named = ("http://x.bad.com/y", "bad.com:8080", "https://ads.example.com", "a.com/private/x?y=1", "b.com/one.html#z")
    assert all(is_blocked(url if "://" in url else f"http://{url}", blocked) for url in named)
    others = (
        "http://notbad.com/",
        "http://example.com/",
        "http://a.com/privately",
        "http://b.com/one",
        "",
        "http://[x",
    )
    assert not any(is_blocked(url, blocked) for url in others)
