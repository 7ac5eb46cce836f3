"""How URLs that others name are spelled, and which addresses they may lead to: S18, S21, S22, S25."""

import ipaddress

import pytest

from pyrimage.addresses import AllowedHosts, check_source, parse_url
from pyrimage.errors import Invalid
from pyrimage.readers import allowed_hosts

NONE = AllowedHosts()

FORBIDDEN = [
    *("0.0.0.0", "0.1.2.3", "10.0.0.1", "10.255.255.255", "100.64.0.1", "100.127.255.255"),
    *("127.0.0.1", "127.255.0.1", "169.254.169.254", "172.16.0.1", "172.31.255.255", "192.0.0.1"),
    *("192.0.0.170", "192.0.2.1", "192.88.99.1", "192.168.0.1", "198.18.0.1", "198.51.100.1"),
    *("203.0.113.1", "224.0.0.1", "239.255.255.255", "240.0.0.1", "255.255.255.255", "::"),
    *("::1", "::7f00:1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:169.254.169.254", "::ffff:0:7f00:1"),
    *("64:ff9b::127.0.0.1", "64:ff9b::10.0.0.1", "64:ff9b::a9fe:a9fe", "64:ff9b:1::8.8.8.8", "100::1", "2001::1"),
    *("2001:2::1", "2001:10::1", "2001:db8::1", "2002:7f00:1::", "2002:808:808::1", "3fff::1"),
    *("5f00::1", "fc00::1", "fd00::1", "fdff::1", "fe80::1", "febf::1"),
    *("fec0::1", "ff02::1", "ff0e::1"),
]
PUBLIC = [
    *("1.1.1.1", "8.8.8.8", "9.255.255.255", "11.0.0.1", "100.63.255.255", "100.128.0.1"),
    *("172.15.0.1", "172.32.0.1", "192.167.0.1", "223.255.255.254", "2001:4860:4860::8888", "2606:4700::1111"),
    *("2a00:1450::1", "::ffff:8.8.8.8", "64:ff9b::8.8.8.8"),
]


def spelled(address: str) -> str:
    return f"[{address}]" if ":" in address else address


@pytest.mark.parametrize("address", FORBIDDEN)
def test_an_address_that_is_not_public_is_refused(address: str) -> None:
    """S21."""
    assert not NONE.permits(address, ipaddress.ip_address(address))
    for url in (f"http://{spelled(address)}/x", f"https://{spelled(address)}:8443"):
        with pytest.raises(Invalid, match=r"may be asked from here \(pyrimage.allowed_hosts\)"):
            check_source(url, NONE)


@pytest.mark.parametrize("address", PUBLIC)
def test_a_public_address_may_be_asked(address: str) -> None:
    assert NONE.permits(address, ipaddress.ip_address(address))
    assert check_source(f"http://{spelled(address)}/x", NONE).address == ipaddress.ip_address(address)


@pytest.mark.parametrize("name", ["localhost", "LOCALHOST", "localhost.", "a.localhost"])
def test_the_names_of_this_machine_are_refused(name: str) -> None:
    """S21."""
    with pytest.raises(Invalid, match="may be asked"):
        check_source(f"http://{name}/", NONE)


@pytest.mark.parametrize(
    "host",
    [
        *(
            "2130706433",
            "0x7f000001",
            "0x7f.1",
            "0177.0.0.1",
            "017700000001",
            "127.1",
            "127.0.1",
            "127.0.0.01",
            "127.0.0.1..",
        ),
        *("0", "1", "08.8.8.8", "8.8.8.8.8", "256.1.1.1", "a.1", "a.0x7f", "127.0.0.0x1", "[127.0.0.1]"),
        *(
            "[::1%25lo]",
            "[fe80::1%lo]",
            "[::1",
            "::1]",
            "[]",
            "[::ffff:0177.0.0.1]",
            "127%2E0.0.1",
            "%6cocalhost",
            "a..b",
        ),
        *(".a", "a,", "a@b", "joe:secret@a", "joe@127.0.0.1", "a:0", "a:65536", "a:123456", "a:80x"),
        *("a:-1", "a:", "a:80:80"),
        *(
            "",
            "\u2460\u2461\u2466.0.0.1",
            "\uff11\uff12\uff17.0.0.1",
            "\uff41.example",
            "a\u3002example",
            "x" * 64,
            f"{'x.' * 127}x",
        ),
    ],
)
def test_a_host_that_is_spelled_in_another_way_is_refused(host: str) -> None:
    """S22: and nothing of the URL is in the words that say so."""
    with pytest.raises(Invalid) as refused:
        parse_url(f"http://{host}/secret")
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize(
    "text",
    [
        *("", "a", "/a", "//a/b", "http:", "http:/a", "http:a", "http:///a", "http://", "https://?a", "ttp://a"),
        *(
            "file:///etc/passwd",
            "FILE:///etc/passwd",
            "%66ile:///x",
            "file:/x",
            "filesystem:///x",
            "ftp://a/",
            "httpx://a",
        ),
        *(
            " http://a",
            "http://a ",
            "\thttp://a",
            "ht\ttp://a",
            "http://a/\n",
            "http://a/\x00",
            "http://a/b c",
            "http://a\\b",
        ),
        *("http://a/`id`", "http://a/{b}", 'http://a/"', "http://a/<b>", "http://a/|b", "http://a/^", "http://a/é"),
        *("http://a/%", "http://a/%2", "http://a/%zz", "http://a/#fragment", "http://a\\@b/", "http://a\x7f/"),
    ],
)
def test_what_is_no_absolute_url_of_the_web_is_refused(text: str) -> None:
    """S18, S25."""
    with pytest.raises(Invalid):
        parse_url(text)


@pytest.mark.parametrize("path", ["a;b", "$(id)", "?a=$b", "a;id"])
def test_a_client_percent_encodes_what_a_shell_would_not_leave_alone(path: str) -> None:
    """S25."""
    with pytest.raises(Invalid, match="percent-encoded"):
        check_source(f"http://images.example.org/{path}", NONE)


@pytest.mark.parametrize(
    ("text", "authority", "target"),
    [
        ("http://a", "a", "/"),
        ("HTTP://A.Example:80/B?c=d&e", "a.example", "/B?c=d&e"),
        ("https://a_b-c.example.:443/%20%3B", "a_b-c.example", "/%20%3B"),
        ("https://a:80?b", "a:80", "/?b"),
        ("http://[2001:DB8::1]:8080/x@y", "[2001:db8::1]:8080", "/x@y"),
    ],
)
def test_a_url_is_read(text: str, authority: str, target: str) -> None:
    url = parse_url(text)
    assert (url.authority, url.target) == (authority, target)
    assert parse_url(str(url)) == url


def test_allowed_hosts_open_what_would_be_refused() -> None:
    allowed = allowed_hosts("Images.example.org, 10.1.2.3,10.2.0.0/16 , fd00::/8, localhost")
    assert str(allowed) == "images.example.org, localhost, 10.1.2.3/32, 10.2.0.0/16, fd00::/8"
    ten = ipaddress.ip_address("10.9.9.9")
    assert allowed.permits("images.example.org", ten)
    assert not allowed.permits("other.example.org", ten)
    for host in ("10.1.2.3", "10.2.255.255", "[::ffff:10.2.0.1]", "[fd00::1]", "localhost"):
        check_source(f"http://{host}/", allowed)
    for host in ("10.1.2.4", "10.3.0.0", "[fe80::1]", "a.localhost"):
        with pytest.raises(Invalid):
            check_source(f"http://{host}/", allowed)


@pytest.mark.parametrize("text", ["", "a,", "10.0.0.1/8", "0x7f.1", "http://a", "*.example.org", "a b", "10.0.0.0/33"])
def test_what_is_no_host_is_no_setting(text: str) -> None:
    with pytest.raises(ValueError, match="use names of hosts, addresses and networks"):
        allowed_hosts(text)
