"""One service of several servers, configured as ``docs/scale.md`` prints it: proxy, API servers, registries, database.

::

    with Fleet(tmp_path, "haproxy", database_url) as fleet:
        fleet.proxy.request("GET", "/v1/images")
"""

import configparser
import re
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Self

from default_store import store_in
from servers import proxies
from servers.processes import children, run, wait_until
from servers.proxies import LANGUAGES, Proxy
from servers.pyrimage import READY_SECONDS, ROOT, Server

PAGE = ROOT / "docs/scale.md"
API_SERVERS = ("192.0.2.11:9292", "192.0.2.12:9292")
REGISTRIES = ("192.0.2.21", "192.0.2.22")
WORKERS = 2  # auto, on the smallest machine

# What a proxy's section of the page stands instead of.
SECTIONS = {"nginx": r"^upstream pyrimage {.*?^}\n", "haproxy": r"^backend pyrimage\n.*\Z"}


def settings(heading: str, section: str) -> dict[str, str]:
    """Return what the page sets in a section of the ini below a heading, but for where a server listens."""
    text = PAGE.read_text(encoding="utf-8").partition(f"\n### {heading}\n")[2]
    (found, *_) = re.findall(r"^```ini\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    ini = configparser.RawConfigParser()
    ini.read_string(found)
    return {key: value for key, value in ini[section].items() if key != "listen"}


def configuration(kind: str) -> str:
    """Return the configuration of a proxy: that of docs/proxies.md with the page's section."""
    language = LANGUAGES[kind]
    ours = proxies.block(language, PAGE)
    text, count = re.subn(
        SECTIONS[kind], ours.replace("\\", r"\\"), proxies.block(language), flags=re.MULTILINE | re.DOTALL
    )
    if count != 1:
        raise AssertionError(f"{count} sections {SECTIONS[kind]!r}")
    return text


def wait_for_workers(server: Server) -> None:
    """Wait until a server has all its workers, and answers."""
    wait_until(lambda: len(children(server.pid)) == WORKERS, READY_SECONDS, server.log)
    server.wait()


def manage(server: Server, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """Run ``pyrimage-manage`` on the machine of a server."""
    return run("pyrimage-manage", "-c", server.ini, *arguments, cwd=server.directory)


@contextmanager
def _ending(part: Server | Proxy) -> Iterator[None]:
    try:
        yield
    finally:
        part.stop()
        print(part.log()[-3000:])  # pytest shows it if the test failed


class Registry(Server):
    """A registry server, of an ini like those of API servers."""

    def __init__(self, directory: Path, *, main: Mapping[str, str], server: Mapping[str, str]) -> None:
        super().__init__(directory, sample="production", main=main)
        self.configure("server:registry", {"listen": f"127.0.0.1:{self.port}", **server})

    def launch(self, *command: str, **environment: str) -> None:
        """Run it; a ``command`` is nobody's choice."""
        ours = ("pserve", "-n", "registry", "--server-name", "registry", str(self.ini))
        super().launch(*(command or ours), **environment)


class Fleet:
    """All servers of one service; runs in a ``with``.

    kind: of the proxy. url: of the database. place: the ini's keys of the store; a shared directory unless given, and
    then there is no ``store`` to be listed.
    has_registries: whether the API servers ask registries, or the database themselves.
    """

    def __init__(
        self,
        directory: Path,
        kind: str,
        url: str,
        *,
        place: dict[str, str] | None = None,
        has_registries: bool = True,
    ) -> None:
        self.directory, self.url = directory, url
        self.datadir = directory / "images"
        self.store = store_in(place) if place else None
        self._place = place or {"pyrimage.filesystem_store_datadir": str(self.datadir)}
        self.registries = [self._registry(number) for number in range(2 if has_registries else 0)]
        self.apis = [self._api(number) for number in range(2)]
        ports = {address: api.port for address, api in zip(API_SERVERS, self.apis, strict=True)}
        below = directory / kind
        below.mkdir()
        self.proxy = Proxy(kind, below, configuration(kind), ports)
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        upgraded = manage((self.registries or self.apis)[0], "db", "upgrade")
        if upgraded.returncode:
            raise AssertionError(upgraded.stderr)
        with self._stack as stack:
            for tier in (self.registries, self.apis):
                for server in tier:
                    stack.enter_context(_ending(server))
                    server.launch()
                for server in tier:
                    server.wait()
            stack.enter_context(_ending(self.proxy))
            self.proxy.start()
            self.wait_until_whole()
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    def wait_until_whole(self) -> None:
        """Wait until every server has all its workers."""
        for server in (*self.apis, *self.registries):
            wait_for_workers(server)

    def _registry(self, number: int) -> Server:
        main = {**self._settings("Registries"), "sqlalchemy.url": self.url}
        server = {**settings("Registries", "server:registry"), "workers": str(WORKERS)}
        return Registry(self._below("registry", number), main=main, server=server)

    def _api(self, number: int) -> Server:
        main = {**proxies.settings("app:main"), **self._settings("API servers")}
        server = {**settings("API servers", "server:main"), "workers": str(WORKERS), "trusted_proxy": "127.0.0.1"}
        hosts = main.pop("pyrimage.registry_host")
        if not self.registries:
            main.pop("pyrimage.registry_port")
            return self._made(number, {**main, "sqlalchemy.url": self.url}, server)
        for printed, registry in zip(REGISTRIES, self.registries, strict=True):
            hosts = hosts.replace(printed, f"127.0.0.1:{registry.port}")
        made = self._made(number, {**main, "pyrimage.registry_host": hosts}, server)
        made.ini.write_text(re.sub(r"^sqlalchemy\.url.*\n", "", made.ini.read_text(), flags=re.MULTILINE))
        return made

    def _settings(self, heading: str) -> dict[str, str]:
        """Return the page's settings, but for the store."""
        printed = settings(heading, "app:main").items()
        return {**{key: text for key, text in printed if "_store_" not in key}, **self._place}

    def _made(self, number: int, main: Mapping[str, str], server: Mapping[str, str]) -> Server:
        made = Server(self._below("api", number), sample="production", main=main, server=server)
        made.datadir = self.datadir
        return made

    def _below(self, what: str, number: int) -> Path:
        directory = self.directory / f"{what}-{number + 1}"
        directory.mkdir()
        return directory
