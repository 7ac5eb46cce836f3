"""Whom the server may ask when somebody else names a URL: how that is spelled, and which addresses it may lead to.

Nothing here asks anybody; ``opener`` does. Source: RFC 3986; docs/security.md, "Reaching what is not theirs".
"""

import ipaddress
import re
from dataclasses import dataclass

from .errors import Invalid

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

PORTS = {"http": 80, "https": 443}

_NAME = re.compile(r"(?=.{1,253}\Z)[a-z0-9_-]{1,63}(\.[a-z0-9_-]{1,63})*")
_NUMERIC = re.compile(r"(.*\.)?([0-9]+|0x[0-9a-f]*)")  # resolvers take 2130706433, 0x7f.1 and 127.1 for addresses
_CHARACTERS = re.compile(r"(?:[A-Za-z0-9._~:/?#\[\]@!$&'()*+,;=-]|%[0-9A-Fa-f]{2})*")
_URL = re.compile(r"(https?)://(\[[^\]]*\]|[^/?#:@\[\]]*)(?::([0-9]{1,5}))?([/?][^#]*)?", re.IGNORECASE)
_SHELL = re.compile("[;$]")  # of what a URL may hold, that which a shell would not leave alone

_GLOBAL = ipaddress.IPv6Network("2000::/3")  # all that is given out so far
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
# What some releases of Python take for public addresses.
_SPECIAL: tuple[Network, ...] = (
    ipaddress.IPv4Network("192.0.0.0/24"),
    ipaddress.IPv4Network("192.88.99.0/24"),
    ipaddress.IPv6Network("2001::/23"),
    ipaddress.IPv6Network("2002::/16"),  # 6to4: an IPv4 address, behind a relay that nobody runs any more
    ipaddress.IPv6Network("3fff::/20"),
)


@dataclass(frozen=True, slots=True)
class Url:
    """A URL that can be asked for. host: in lower case, IPv6 without brackets. target: path and query."""

    scheme: str
    host: str
    port: int
    target: str

    @property
    def authority(self) -> str:
        """Return what the header Host says."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == PORTS[self.scheme] else f"{host}:{self.port}"

    @property
    def address(self) -> Address | None:
        """Return the address that the host is, None for a name."""
        return None if is_name(self.host) else _address(self.host)

    def __str__(self) -> str:
        return f"{self.scheme}://{self.authority}{self.target}"


@dataclass(frozen=True, slots=True)
class AllowedHosts:
    """What may be asked beside public addresses: names, in lower case, and networks."""

    names: frozenset[str] = frozenset()
    networks: tuple[Network, ...] = ()

    def permits(self, host: str, address: Address) -> bool:
        """Say whether ``address``, to which ``host`` leads, may be asked."""
        meant = _embedded(address)
        is_named = host in self.names or any(meant in network for network in self.networks)
        return is_named or is_public(meant)

    def __str__(self) -> str:
        return ", ".join([*sorted(self.names), *map(str, self.networks)])


def is_name(text: str) -> bool:
    """Say whether a text in lower case is the name of a host, and no spelling of an address."""
    return _NAME.fullmatch(text) is not None and not _NUMERIC.fullmatch(text)


def parse_url(text: str) -> Url:
    """Read an absolute http(s) URL. Raises Invalid, with nothing of the URL in its words."""
    if not _CHARACTERS.fullmatch(text):
        raise Invalid("The URL holds a character that must be percent-encoded.")
    found = _URL.fullmatch(text)
    if found is None:
        raise Invalid("The URL must be an absolute one of http or https, without user, password and fragment.")
    scheme, host, port, target = found[1].lower(), found[2].lower(), found[3], found[4] or ""
    host = host.removeprefix("[").removesuffix("]") if host.startswith("[") else host.removesuffix(".")
    url = Url(scheme, host, int(port or PORTS[scheme]), target if target.startswith("/") else f"/{target}")
    is_host = is_name(host) or (_address(host) and (":" in host) == found[2].startswith("["))
    if not is_host or not 0 < url.port < 65536:
        raise Invalid(
            "The URL's host must be spelled as a name, as 192.0.2.1 or [2001:db8::1], its port as 1 to 65535."
        )
    return url


def check_source(text: str, allowed: AllowedHosts) -> Url:
    """Read a URL that a client wants to be asked; refuse what is known without asking. Raises Invalid."""
    url = parse_url(text)
    if _SHELL.search(text):
        raise Invalid("The URL holds ; or $, which must be percent-encoded.")
    is_local = url.host == "localhost" or url.host.endswith(".localhost")  # RFC 6761
    if (is_local and url.host not in allowed.names) or (url.address and not allowed.permits(url.host, url.address)):
        raise refusal(url.host)
    return url


def refusal(host: str) -> Invalid:
    """Make the one error for a host that may not be asked: it tells nobody what is there, or that nothing is."""
    return Invalid(f"{host} has no address that may be asked from here (pyrimage.allowed_hosts).")


def is_public(address: Address) -> bool:
    """Say whether everybody can reach an address: none that is of this machine, of a network of its own, or of many."""
    if address.version == 6 and address not in _GLOBAL:
        return False
    special = address.is_multicast or address.is_reserved or any(address in network for network in _SPECIAL)
    return address.is_global and not special


def _embedded(address: Address) -> Address:
    """Return the IPv4 address to which an IPv6 one leads, else the address itself."""
    if isinstance(address, ipaddress.IPv6Address):
        if address in _NAT64:
            return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
        return address.ipv4_mapped or address
    return address


def _address(text: str) -> Address | None:
    """Read an address in its usual spelling; Python takes no other. None for one that holds a zone, too."""
    try:
        return None if "%" in text else ipaddress.ip_address(text)
    except ValueError:
        return None
