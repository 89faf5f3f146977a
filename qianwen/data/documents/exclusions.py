"""Pages that must not be used: whose author opted out, and whose address is on a blocklist.

    opts_out(headers, metas)     the author's word, in HTTP headers and <meta> tags of the page
    blocklist(path), is_blocked  the user's own list of hosts and addresses

A page is left out that says one of these, in every header and every tag of that name:

    noai, noml                   not for machine learning; to all robots or to one of them
    noindex, none                not for any index; to all robots (`googlebot: noindex` is about that index alone)
    tdm-reservation: 1           rights reserved for text and data mining (TDMRep, EU directive 2019/790, article 4)

`noimageai` and `noimageindex` are about pictures, which are not read; `nofollow`, `noarchive` and `nosnippet` are about
other uses. Robots.txt is not looked at: it is for the crawler.
"""

import re
import unicodedata
from collections.abc import Collection, Iterable
from pathlib import Path
from urllib.parse import unquote, urlsplit

from qianwen.data.documents.encoding_choice import decoded

FOR_ANY_ROBOT = frozenset({"noai", "noml"})
FOR_ALL_ROBOTS = frozenset({"noindex", "none"})
WITH_VALUES = frozenset({"unavailable_after", "max-snippet", "max-image-preview", "max-video-preview"})
ROBOT = re.compile(r"robots?|[\w.-]*bot(?:-[\w-]+)?|[\w.-]*spider|slurp|teoma|google-extended|[\w-]+-ai|ai-[\w-]+")
WORDS = re.compile(r"[\w-]+")
SLASH = re.compile("%2f", re.I)
DOTS = str.maketrans("。．｡", "...")


def opts_out(headers: Iterable[tuple[str, str]], metas: Iterable[dict[str, str]] = ()) -> bool:
    """Whether a page may not be used, by its HTTP headers (names and values) and the attributes of its <meta> tags."""
    for name, value in headers:
        name = name.strip().lower()
        if (name == "x-robots-tag" and _header_forbids(value)) or (name == "tdm-reservation" and _is_one(value)):
            return True
    return any(_meta_forbids(meta) for meta in metas)


def _header_forbids(value: str) -> bool:
    """`X-Robots-Tag: noai`, `googlebot: noindex, otherbot: noai`: a robot's name is for all directives after it."""
    is_for_one = False
    for item in value.lower().split(","):
        name, colon, directives = item.partition(":")
        if colon and name.strip() not in WITH_VALUES:
            is_for_one = name.strip() not in ("robots", "*")
        if _forbids(directives if colon else name, FOR_ANY_ROBOT if is_for_one else FOR_ANY_ROBOT | FOR_ALL_ROBOTS):
            return True
    return False


def _meta_forbids(meta: dict[str, str]) -> bool:
    name = (meta.get("name") or meta.get("http-equiv") or meta.get("property") or "").lower()
    content = meta.get("content", "")
    if name == "tdm-reservation":
        return _is_one(content)
    if name == "x-robots-tag":
        return _header_forbids(content)
    if name in ("robots", "robot"):
        return _forbids(content, FOR_ANY_ROBOT | FOR_ALL_ROBOTS)
    return bool(ROBOT.fullmatch(name)) and _forbids(content, FOR_ANY_ROBOT)


def _forbids(directives: str, forbidden: frozenset[str]) -> bool:
    return not forbidden.isdisjoint(WORDS.findall(directives.lower()))


def _is_one(value: str) -> bool:
    return value.strip(" \t\"'") == "1"


def blocklist(path: Path) -> frozenset[str]:
    """Hosts and beginnings of URLs, one a line; `#` begins a comment. A hosts file is one, too."""
    entries = set()
    read = decoded(path.read_bytes())
    for line in read.text.splitlines() if read else ():
        if words := line.partition("#")[0].split():
            entry = words[-1].strip("<>").removeprefix("*").removeprefix(".")
            entries.add(url_key(entry if "://" in entry else f"http://{entry}"))
    return frozenset(entries - {""})


def is_blocked(url: str, blocked: Collection[str]) -> bool:
    """Whether a page, a folder above it, its host or a domain above that is on the list; the scheme and www. are not
    looked at. An entry with a port is about that port alone.
    """
    if not url or not blocked:
        return False
    address, _, query = url_key(url).partition("?")
    host, _, path = address.partition("/")
    name, colon, port = host.partition(":")
    labels = name.split(".")
    domains = [".".join(labels[start:]) for start in range(len(labels))]
    if any(domain in blocked or f"{domain}{colon}{port}" in blocked for domain in domains):
        return True
    steps, fields = path.split("/"), query.split("&")
    starts = [f"/{'/'.join(steps[:number])}" for number in range(1, len(steps) + 1)]
    starts += [f"{address[len(host) :]}?{'&'.join(fields[:number])}" for number in range(1, len(fields) + 1)]
    return any(f"{name}{start}" in blocked or f"{host}{start}" in blocked for start in starts)


def url_key(url: str) -> str:
    """What URLs of the same page share: no scheme, user, `www.`, fragment, default port or slash at the end; the host
    in lower case and in its own script (`bücher.example`, not `xn--bcher-kva.example`), the path without escapes.
    """
    url = url.strip().removeprefix("<").removesuffix(">").strip()
    try:
        parts = urlsplit(unicodedata.normalize("NFC", url))
        port = f":{parts.port}" if parts.port not in (None, 80, 443) else ""
    except ValueError:
        return url
    host = _host(parts.hostname or "").removeprefix("www.")
    path = "%2F".join(map(unquote, SLASH.split(parts.path))) if "%" in parts.path else parts.path
    query = f"?{parts.query}" if parts.query else ""
    return f"{host}{port}{path.rstrip('/')}{query}"


def _host(host: str) -> str:
    """A host name as it is compared: without the dot at its end, its labels not in Punycode."""
    if host.isascii() and "xn--" not in host and "%" not in host:
        return host.rstrip(".")
    labels = unicodedata.normalize("NFKC", unquote(host).translate(DOTS)).lower().rstrip(".").split(".")
    return ".".join(_own_script(label) for label in labels)


def _own_script(label: str) -> str:
    if not label.startswith("xn--"):
        return label
    try:
        return unicodedata.normalize("NFKC", label[4:].encode("ascii").decode("punycode")).lower()
    except ValueError:  # no Punycode
        return label
