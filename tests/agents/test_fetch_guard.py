"""The guarded fetch (S5): no connection to what is not public, and limits of size, time and redirects."""

import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator, Sequence

import pytest

from qianwen.agents.fetch_guard import Guard
from qianwen.runtime.errors import ConfigError, ToolError

PUBLIC_IP = "93.184.216.34"
NAMES = {
    "localhost": ["127.0.0.1", "::1"],
    "localhost.": ["127.0.0.1"],
    "localhost.localdomain": ["127.0.0.1"],
    "private.example": ["10.0.0.1"],
    "metadata.google.internal": ["169.254.169.254"],
    "127.0.0.1.nip.example": ["127.0.0.1"],
    "mixed.example": [PUBLIC_IP, "127.0.0.1"],
    "mixed6.example": ["2606:2800:220:1::1", "::1"],
    "mapped.example": ["::ffff:127.0.0.1"],
    "tunnel.example": ["2002:7f00:1::"],
    "odd.example": ["127.1"],
    "none.example": [],
    "xn--oogle-wmc.example": ["127.0.0.1"],
    "start.example": ["127.0.0.1"],
}


def resolve(host: str, port: int) -> Sequence[str]:
    """As the system does, with numbers in every form, but with names of our own."""
    if host in NAMES:
        return NAMES[host]
    if ":" in host:
        return [host]
    try:
        return [socket.inet_ntoa(socket.inet_aton(host))]
    except OSError:
        raise socket.gaierror(f"no {host}") from None


# -- S5: addresses that lead to this machine or its network. `P` is the port of the trap.

LOOPBACKS = [
    *("127.0.0.1", "127.0.0.2", "127.1", "127.0.1", "0", "0.0.0.0", "2130706433", "017700000001", "0x7f000001"),
    *("0x7f.0.0.1", "0x7f.1", "0177.0.0.1", "0177.1", "127.0.0.01", "127.0x0.0.1", "00000177.0.0.1", "0x0000007f.1"),
    *("127.255.255.254", "1.0.0.127.in-addr.arpa", "localhost", "LOCALHOST", "localhost.", "localhost.localdomain"),
    *("[::1]", "[::]", "[0:0:0:0:0:0:0:1]", "[0000::1]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "[::127.0.0.1]"),
    *("[64:ff9b::127.0.0.1]", "[2002:7f00:1::]", "[2001:0:7f00:1::1]", "[fe80::1]", "[::ffff:0:127.0.0.1]"),
    *("１２７.０.０.１", "127。0。0。1", "ⓛocalhost", "①②⑦.0.0.1", "127.0.0.1.nip.example", "mapped.example"),
    *("mixed.example", "mixed6.example", "tunnel.example", "odd.example", "none.example", "xn--oogle-wmc.example"),
    *("spoofed.burpcollaborator.invalid", "%6c%6f%63alhost", "127.0.0.1%00.example", "127.0.0.1%2f"),
]
NETWORKS = [
    *("10.0.0.1", "10.255.255.255", "172.16.0.1", "172.31.9.9", "192.168.0.1", "192.168.255.255", "100.64.0.1"),
    *("169.254.169.254", "0xa9fea9fe", "2852039166", "0251.0376.0251.0376", "169.254.170.2", "[fd00:ec2::254]"),
    *("metadata.google.internal", "private.example", "192.0.2.1", "198.18.0.1", "224.0.0.1", "255.255.255.255"),
    *("240.0.0.1", "[fc00::1]", "[ff02::1]", "[2001:db8::1]", "[fec0::1]", "[::ffff:10.0.0.1]", "[::ffff:a9fe:a9fe]"),
    *("[64:ff9b::a00:1]", "[2002:a9fe:a9fe::]"),
]
CONFUSIONS = [
    *("http://8.8.8.8@127.0.0.1:P/", "http://8.8.8.8:80@127.0.0.1:P/", "http://8.8.8.8\\@127.0.0.1:P/"),
    *("http://127.0.0.1:P\\@8.8.8.8/", "http://127.0.0.1:P#@8.8.8.8/", "http://127.0.0.1:P?@8.8.8.8/"),
    *("http://user:pw@localhost:P/", "http://@localhost:P/", "http:/\\localhost:P/"),
    *("http:\\\\localhost:P/", "http:localhost:P/", "http:/localhost:P/", "//localhost:P/", "///localhost:P/"),
    *("\thttp://localhost:P/", "http://local\thost:P/", "http://local\nhost:P/", "http://localhost:P\r\n/", "\0http://[::1]:P/"),
    *("http://localhost\0.example:P/", "http://localhost:P/\r\nX: y", "http://loc\u00adalhost:P/", "http://localhost\u200b:P/"),
    *("http://[::1%25lo]:P/", "http://[::1%lo]:P/", "http://[::1]x:P/", "http://[[::1]]:P/", "http://::1:P/"),
    *("http://[127.0.0.1]:P/", "http://localhost:00000P/", "http://localhost: P/", "http://localhost:P:80/"),
    *("http://127.0.0.1:P/x@8.8.8.8", "https://localhost:P/", "https://[::1]:P/", "HTTP://127.0.0.1:P/", "hTtP://[::1]:P/"),
    *("http://a.localhost:P/", "http://127.0.0.1.:P/", "http://127.0.0.1..:P/", "http://.localhost:P/"),
]  # fmt: skip
OTHER_SCHEMES = [
    *("file:///etc/passwd", "file://localhost:P/etc/passwd", "FILE:///etc/passwd", "/etc/passwd", "../../etc/passwd"),
    *("gopher://127.0.0.1:P/_GET", "ftp://127.0.0.1:P/", "sftp://127.0.0.1:P/", "tftp://127.0.0.1:P/", "dict://127.0.0.1:P/"),
    *("ldap://127.0.0.1:P/", "ws://127.0.0.1:P/", "wss://127.0.0.1:P/", "unix:///var/run/docker.sock", "http+unix://127.0.0.1:P/"),
    *("data:text/html,x", "javascript:fetch('http://127.0.0.1:P')", "jar:http://127.0.0.1:P!/", "view-source:http://127.0.0.1:P/"),
    *("blob:http://127.0.0.1:P/", "about:blank", "urn:x", "git://127.0.0.1:P/", "svn://127.0.0.1:P/", "redis://127.0.0.1:P/"),
]  # fmt: skip
HOSTILE = [
    *(f"http://{host}:P/" for host in LOOPBACKS),
    *(f"http://{host}:P/latest/meta-data/" for host in NETWORKS),
    *CONFUSIONS,
    *OTHER_SCHEMES,
]


def test_there_are_at_least_as_many_hostile_addresses_as_promised():
    print(f"S5: {len(set(HOSTILE))} addresses")
    assert len(set(HOSTILE)) >= 120


@pytest.mark.parametrize("url", HOSTILE)
def test_a_hostile_address_reaches_nothing(url: str, trap):
    with pytest.raises(ToolError):
        Guard(resolve=resolve).fetch(url.replace("P", str(trap.port)))
    assert trap.connections() == 0


@pytest.mark.parametrize("url", [url for url in HOSTILE if url.isprintable() and "://" in url][::6])
def test_a_redirect_to_a_hostile_address_reaches_nothing(url: str, trap, web):
    guard = Guard(resolve=resolve, allowed=["start.example"])
    with pytest.raises(ToolError):
        guard.fetch(f"http://start.example:{web.server_port}/redirect?{url.replace('P', str(trap.port))}")
    assert trap.connections() == 0
    assert len(web.requests) == 1


@pytest.mark.parametrize("host", ["127.0.0.1", "0x7f.1", "2130706433", "0", "[::1]", "localhost"])
def test_the_same_addresses_reach_the_trap_where_the_user_allows_them(host: str, trap):
    url = f"http://{host}:{trap.port}/"
    for allowed in ([host], [f"{host}:{trap.port}"], [host.upper()]):
        with pytest.raises(ToolError):  # the trap does not answer
            Guard(resolve=resolve, allowed=allowed, max_seconds=0.05).fetch(url)
    assert trap.connections() == 3
    for allowed in ([f"{host}:{trap.port + 1}"], ["start.example"]):
        with pytest.raises(ToolError, match="not public"):
            Guard(resolve=resolve, allowed=allowed).fetch(url)
    assert trap.connections() == 0


def test_a_public_host_cannot_send_us_to_a_host_that_the_user_allowed(web, trap):
    """The owner of a page must not use what the user opened for themselves."""
    guard = Guard(resolve=resolve, allowed=["start.example", f"localhost:{trap.port}"])
    with pytest.raises(ToolError, match="not public"):
        guard.fetch(f"http://start.example:{web.server_port}/redirect?http://localhost:{trap.port}/")
    assert trap.connections() == 0


@pytest.mark.parametrize("hosts", [["http://a"], ["a/b"], ["*"], [""], [5], ["user@a"]])
def test_an_allowed_host_that_is_not_a_host_is_refused(hosts: list[str]):
    with pytest.raises(ConfigError, match="host:port"):
        Guard(allowed=hosts)


# -- DNS rebinding


class NameServer:
    """Answers each question about any name with the next of its addresses; the last one stays."""

    def __init__(self, *addresses: str) -> None:
        self.addresses, self.questions = list(addresses), 0
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind(("127.0.0.1", 0))
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                question, client = self.socket.recvfrom(512)
            except OSError:
                return
            address = self.addresses[min(self.questions, len(self.addresses) - 1)]
            self.questions += 1
            head = question[:2] + b"\x81\x80\0\1\0\1\0\0\0\0"
            answer = b"\xc0\x0c\0\1\0\1\0\0\0\0\0\4" + socket.inet_aton(address)  # time to live 0
            self.socket.sendto(head + question[12:] + answer, client)

    def resolve(self, host: str, port: int) -> list[str]:
        labels = b"".join(struct.pack("B", len(label)) + label.encode() for label in host.split("."))
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            client.settimeout(2)
            client.sendto(b"\0\1\1\0\0\1\0\0\0\0\0\0" + labels + b"\0\0\1\0\1", self.socket.getsockname())
            return [socket.inet_ntoa(client.recv(512)[-4:])]


@pytest.fixture
def rebinding() -> Iterator[Callable[..., NameServer]]:
    servers: list[NameServer] = []

    def start(*addresses: str) -> NameServer:
        servers.append(NameServer(*addresses))
        return servers[-1]

    yield start
    for server in servers:
        server.socket.close()


def test_a_name_is_resolved_once_and_the_checked_address_is_connected_to(rebinding, trap):
    server = rebinding(PUBLIC_IP, "127.0.0.1")
    # The connection to the public address is refused by the tests' own rule, which names it.
    with pytest.raises(RuntimeError, match=PUBLIC_IP):
        Guard(resolve=server.resolve).fetch(f"http://rebind.example:{trap.port}/")
    assert server.questions == 1
    with pytest.raises(ToolError, match="127.0.0.1"):  # the next fetch asks again, and sees the other answer
        Guard(resolve=server.resolve).fetch(f"http://rebind.example:{trap.port}/")
    assert trap.connections() == 0


def test_a_redirect_to_the_same_name_is_checked_again(rebinding, web, trap):
    server = rebinding("127.0.0.1", "10.0.0.1")
    guard = Guard(resolve=server.resolve, allowed=[f"rebind.example:{web.server_port}"])
    with pytest.raises(ToolError, match="10.0.0.1"):
        guard.fetch(f"http://rebind.example:{web.server_port}/redirect?http://rebind.example:{trap.port}/")
    assert server.questions == 2
    assert trap.connections() == 0


# -- what a server answers


def fetch(web, path: str, **options: object):
    return Guard(allowed=[web.host], **options).fetch(web.url + path)


def test_a_page_is_fetched_with_its_status_and_headers(web):
    page = fetch(web, "/tea?x=1#part")
    assert (page.status, page.url) == (200, web.url + "/tea?x=1")
    assert "茶" in page.body.decode()
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    method, path, headers, body = web.requests[0]
    assert (method, path, body) == ("GET", "/tea?x=1", b"")
    assert headers["Host"] == web.host
    assert headers["User-Agent"].startswith("qianwen/")
    assert not {"Cookie", "Authorization", "Referer"} & set(headers)


def test_a_missing_page_is_an_answer(web):
    assert fetch(web, "/missing").status == 404


@pytest.mark.parametrize("coding", ["gzip", "deflate"])
def test_compressed_pages_are_read(coding: str, web):
    assert "茶" in fetch(web, f"/{coding}").body.decode()


def test_three_redirects_are_followed_and_a_fourth_is_not(web):
    page = fetch(web, "/hops?3")
    assert page.body == b"<p>arrived</p>"
    assert page.url == f"{web.url}/hops?0"
    web.requests.clear()
    with pytest.raises(ToolError, match="more than 3"):
        fetch(web, "/hops?4")
    assert len(web.requests) == 4


def test_cookies_are_not_kept(web):
    guard = Guard(allowed=[web.host])
    for _ in range(2):
        guard.fetch(f"{web.url}/cookie")
    assert "Cookie" not in web.requests[1][2]


def test_a_request_with_a_body_does_not_follow_redirects(web):
    page = Guard(allowed=[web.host]).fetch(f"{web.url}/redirect?/tea", method="POST", content=b"{}")
    assert (page.status, len(web.requests)) == (302, 1)


def test_what_is_for_one_origin_reaches_no_other(web, trap):
    guard = Guard(allowed=[web.host, f"127.0.0.1:{trap.port}"])
    headers = {"Authorization": "Bearer secret"}
    assert guard.fetch(f"{web.url}/redirect?/tea", headers=headers, same_origin=True).status == 200
    assert web.requests[-1][2]["Authorization"] == "Bearer secret"
    with pytest.raises(ToolError, match="must not get"):
        guard.fetch(f"{web.url}/redirect?http://127.0.0.1:{trap.port}/", headers=headers, same_origin=True)
    assert trap.connections() == 0


@pytest.mark.parametrize("path", ["/huge", "/endless", "/bomb"])
def test_answers_beyond_the_limit_are_refused(path: str, web):
    with pytest.raises(ToolError, match="longer than 5 MB"):
        fetch(web, path)


def test_an_answer_at_the_limit_is_read(web):
    web.pages["exact"] = (bytes(1000), "text/plain")
    assert len(fetch(web, "/exact", max_bytes=1000).body) == 1000
    with pytest.raises(ToolError, match="longer"):
        fetch(web, "/exact", max_bytes=999)


def test_many_small_compressed_members_take_no_time(web):
    start = time.perf_counter()
    assert fetch(web, "/members").body == b""
    assert time.perf_counter() - start < 2


@pytest.mark.parametrize("path", ["/slow", "/silent", "/headers", "/redirect?/slow"])
def test_slow_answers_end_in_time(path: str, web):
    start = time.perf_counter()
    with pytest.raises(ToolError, match="too long|timed out"):
        fetch(web, path, max_seconds=0.2)
    assert time.perf_counter() - start < 0.7


def test_the_time_that_the_run_has_left_counts_too(web):
    start = time.perf_counter()
    with pytest.raises(ToolError, match="too long|timed out"):
        Guard(allowed=[web.host]).fetch(f"{web.url}/silent", seconds=0.1)
    assert time.perf_counter() - start < 0.6


def test_a_slow_name_and_a_slow_handshake_end_in_time(trap):
    start = time.perf_counter()
    with pytest.raises(ToolError, match="too long"):
        Guard(resolve=lambda host, port: time.sleep(2) or [], max_seconds=0.1).fetch("http://slow.example/")
    with pytest.raises(ToolError, match="too long|timed out"):
        Guard(resolve=resolve, allowed=["start.example"], max_seconds=0.3).fetch(f"https://start.example:{trap.port}/")
    assert time.perf_counter() - start < 1
    assert trap.connections() == 1
    assert b"start.example" in trap.hello  # the certificate is asked for by name, whatever address is connected to


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("/cut", "IncompleteRead|more expected"),
        ("/damaged", "damaged"),
        ("/odd", "not requested"),
        ("/junk", "fetched"),
    ],
)
def test_broken_answers_are_errors(path: str, reason: str, web):
    with pytest.raises(ToolError, match=reason):
        fetch(web, path)


def test_a_server_without_tls_and_a_closed_port_are_errors(web):
    with pytest.raises(ToolError, match="could not be fetched"):
        Guard(allowed=[web.host]).fetch(f"https://{web.host}/tea")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with pytest.raises(ToolError, match="could not be fetched"):
        Guard(allowed=["127.0.0.1"]).fetch(f"http://127.0.0.1:{port}/")


def test_headers_cannot_be_forged(web):
    with pytest.raises(ToolError, match="could not be fetched"):
        Guard(allowed=[web.host]).fetch(f"{web.url}/tea", headers={"X-A": "1\r\nX-B: 2"})


def test_proxies_of_the_environment_are_not_used(web, trap, monkeypatch):
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{trap.port}")
    monkeypatch.setenv("ALL_PROXY", f"http://127.0.0.1:{trap.port}")
    assert fetch(web, "/tea").status == 200
    assert trap.connections() == 0
