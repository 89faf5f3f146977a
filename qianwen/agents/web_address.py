"""Addresses of the web: read in one way only, and whether an IP address is public."""

from __future__ import annotations

import ipaddress
import re
import socket
from dataclasses import dataclass
from urllib.parse import quote, urljoin, urlsplit

from qianwen.runtime.errors import ToolError, excerpt
from qianwen.runtime.translation import tr

PORTS = {"http": 80, "https": 443}
_FORBIDDEN = re.compile(r"[\x00-\x1f\x7f-\xa0\\\u1680\u2000-\u200f\u2028-\u202f\u205f-\u206f\u3000\ufeff]")
_HOST = re.compile(r"[a-z0-9_.-]{1,253}|[0-9a-f:.]+")
_NAT64 = ipaddress.ip_network("64:ff9b::/96")
# Old ways of IPv6 through IPv4, whose addresses contain an address of IPv4.
_TUNNELS = (ipaddress.ip_network("2002::/16"), ipaddress.ip_network("2001::/32"))
_PATH, _QUERY = "/%:@!$&'()*+,;=~", "/?%:@!$&'()*+,;=~[]|"  # characters that stay as they are


@dataclass(frozen=True)
class Address:
    """The parts of an address that the connection and the request are made from; the text is not read a second time."""

    scheme: str
    host: str
    port: int
    target: str  # path and query, as in the first line of a request

    @property
    def origin(self) -> tuple[str, str, int]:
        return self.scheme, self.host, self.port

    def __str__(self) -> str:
        port = "" if self.port == PORTS[self.scheme] else f":{self.port}"
        return f"{self.scheme}://{f'[{self.host}]' if ':' in self.host else self.host}{port}{self.target}"


def read_address(url: str) -> Address:
    """The parts of an address; ToolError unless it is http or https and can be read in only one way."""
    problem = ToolError(tr("{url} is not an address that can be fetched; write https://host/path", url=excerpt(url)))
    if _FORBIDDEN.search(url := url.strip(" ")):  # programs differ in what they do with these characters
        raise problem
    try:
        parts = urlsplit(url)
        port = parts.port
        host = (parts.hostname or "").encode("idna").decode("ascii").lower()
        target = quote(parts.path or "/", safe=_PATH) + (f"?{quote(parts.query, safe=_QUERY)}" if parts.query else "")
    except ValueError:
        raise problem from None
    is_host = _HOST.fullmatch(host) and ("[" in parts.netloc) == (":" in host)
    if parts.scheme not in PORTS or port == 0 or "@" in parts.netloc or not is_host:
        raise problem
    return Address(parts.scheme, host, port or PORTS[parts.scheme], target)


def redirected(address: Address, location: str) -> Address:
    """Where an answer of `address` with this `Location` leads; http.client hands its bytes over as Latin-1."""
    try:
        return read_address(urljoin(str(address), location.encode("latin-1").decode("utf-8", "replace")))
    except ToolError:
        raise
    except ValueError:
        message = "{host} redirects to {location}, which is not an address"
        raise ToolError(tr(message, host=address.host, location=excerpt(location))) from None


def is_public(address: str) -> bool:
    """Whether an IP address is one of the public internet. Addresses of IPv4 inside IPv6 count as what they contain."""
    try:
        ip = ipaddress.ip_address(address)
    except ValueError:
        return False
    if isinstance(ip, ipaddress.IPv6Address):
        if ip.scope_id or any(ip in network for network in _TUNNELS):
            return False
        if inner := ip.ipv4_mapped or (ipaddress.IPv4Address(ip.packed[-4:]) if ip in _NAT64 else None):
            return is_public(str(inner))
        if ip.is_site_local:
            return False
    return ip.is_global and not ip.is_multicast and not ip.is_reserved


def look_up(host: str, port: int) -> list[str]:
    """The IP addresses of a host name, from the system."""
    return list(dict.fromkeys(str(entry[4][0]) for entry in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)))
