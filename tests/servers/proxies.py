"""Real nginx and HAProxy in front of a real pyrimage, configured as ``docs/proxies.md`` prints it.

::

    with proxies.run("nginx", tmp_path, server.port) as proxy:
        proxy.request("GET", "/v1/images")
"""

import configparser
import contextlib
import grp
import http.client
import os
import pwd
import re
import signal
import socket
import ssl
import subprocess
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path

from servers.machine import installed
from servers.processes import OWNED, RUN_SECONDS, clean_environment, free_port, spawn, wait_until
from servers.pyrimage import ANSWER_SECONDS, READY_SECONDS, ROOT, Answer, Body

PAGE = ROOT / "docs/proxies.md"
NAME = "images.example.org"
ADMITTED, REFUSED = "127.0.0.3", "127.0.1.1"  # addresses of this machine inside and outside the proxy's network

KINDS = ("nginx", "haproxy")

# What the page leaves to the rest of nginx.conf. Compression and a cache are on, so that the page has to refuse them.
AROUND = """
daemon off;
user {user} {group};
worker_processes 2;
pid {directory}/nginx.pid;
error_log {directory}/proxy.log info;
events {{ worker_connections 768; }}
http {{
    access_log off;
    client_body_temp_path {directory}/spool/body;
    proxy_temp_path {directory}/spool/proxy;
    fastcgi_temp_path {directory}/spool/fastcgi;
    uwsgi_temp_path {directory}/spool/uwsgi;
    scgi_temp_path {directory}/spool/scgi;
    gzip on;
    gzip_types *;
    gzip_min_length 1;
    proxy_cache_path {directory}/cache keys_zone=everything:1m;
    proxy_cache everything;
    proxy_cache_valid any 1h;
    include {directory}/pyrimage.conf;
}}
"""


# Where the page has the service.
BACKEND = "127.0.0.1:9292"
LANGUAGES = {"nginx": "nginx", "haproxy": "text"}


def block(language: str, page: Path = PAGE) -> str:
    """Return the one fenced block of a language on a page."""
    (found,) = re.findall(rf"^```{language}\n(.*?)^```$", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    return str(found)


def settings(section: str) -> dict[str, str]:
    """Return what the page wants in a section of the service's ini, but for where the service listens."""
    ini = configparser.RawConfigParser()
    ini.read_string(block("ini"))
    return {key: value for key, value in ini[section].items() if key != "listen"}


def replace(text: str, replacements: Mapping[str, str]) -> str:
    """Replace what must differ in a test; all of it must be there."""
    for old, new in replacements.items():
        if old not in text:
            raise AssertionError(f"the configuration has no {old!r}")
        text = text.replace(old, new)
    return text


class Proxy:
    """One of KINDS, which forwards to ports of this machine.

    text: the configuration as it is printed. backends: the addresses of servers there, and the ports here.
    name: the host and port by which its clients know it. certificate: what they trust.
    """

    def __init__(self, kind: str, directory: Path, text: str, backends: Mapping[str, int]) -> None:
        self.kind, self.directory, self._text = kind, directory, text
        self._backends = {printed: f"127.0.0.1:{port}" for printed, port in backends.items()}
        self.program, self.port, self.log_file = installed(kind), free_port(), directory / "proxy.log"
        self.process: subprocess.Popen[bytes] | None = None
        self.name = f"{NAME}:{self.port}"
        self.certificate, self._key = directory / "proxy.crt", directory / "proxy.key"
        self._certify()
        (self._configure_nginx if kind == "nginx" else self._configure_haproxy)()

    @property
    def url(self) -> str:
        """The URL of ``/``, without its slash, by an address that needs no name server."""
        return f"https://127.0.0.1:{self.port}"

    @property
    def command(self) -> tuple[str, ...]:
        """What runs it in the foreground."""
        if self.kind == "nginx":
            return (self.program, "-p", str(self.directory), "-c", "nginx.conf", "-e", str(self.log_file))
        return (self.program, "-db", "-f", "haproxy.cfg")

    def check(self) -> str:
        """Let the program itself check its configuration; return what it says."""
        command = [*OWNED, *self.command, "-t" if self.kind == "nginx" else "-c"]
        environment = clean_environment(self.directory, {})
        done = subprocess.run(
            command,
            cwd=self.directory,
            env=environment,
            capture_output=True,
            text=True,
            timeout=RUN_SECONDS,
            check=False,
        )
        said = done.stdout + done.stderr + self.log()
        if done.returncode:
            raise AssertionError(said)
        return said

    def log(self) -> str:
        """Return everything that it logged."""
        return self.log_file.read_text(encoding="utf-8", errors="replace") if self.log_file.exists() else ""

    def connect(self, source: str = ADMITTED) -> ssl.SSLSocket:
        """Open a connection from an address of this machine; the certificate is checked."""
        plain = socket.create_connection(("127.0.0.1", self.port), ANSWER_SECONDS, (source, 0))
        return self._trust.wrap_socket(plain, server_hostname=NAME)

    def client(self, source: str = ADMITTED) -> http.client.HTTPSConnection:
        """Return a client that keeps its connection."""
        place = (source, 0)
        return http.client.HTTPSConnection(
            "127.0.0.1", self.port, timeout=ANSWER_SECONDS, source_address=place, context=self._trust
        )

    def request(
        self,
        method: str,
        path: str,
        body: Body = None,
        headers: Mapping[str, str] | None = None,
        source: str = ADMITTED,
    ) -> Answer:
        """Send a request."""
        with contextlib.closing(self.client(source)) as client:
            client.request(method, path, body, {"Host": self.name, **(headers or {})})
            response = client.getresponse()
            return Answer(response.status, response.headers, response.read())

    def exchange(self, raw: bytes) -> bytes:
        """Send ``raw`` as it is, and return all that comes until the connection closes."""
        received = bytearray()
        with self.connect() as client:
            client.sendall(raw)
            while piece := client.recv(1 << 20):
                received += piece
        return bytes(received)

    @property
    def pid(self) -> int:
        """The number of its first process."""
        if self.process is None:
            raise RuntimeError(f"{self.kind} does not run")
        return self.process.pid

    def start(self) -> None:
        """Run it until it forwards."""
        self.process = spawn(*self.command, log=self.log_file)
        wait_until(self._forwards, READY_SECONDS, self.log)

    def stop(self) -> None:
        """End it as its operator would; it may have ended by itself."""
        if self.process is not None:
            self.process.terminate()
            self.process.wait(RUN_SECONDS)
            self.process = None

    def kill(self) -> None:
        """End all its processes at once."""
        os.killpg(self.pid, signal.SIGKILL)
        self.stop()

    def _forwards(self) -> bool:
        if self.process is None or self.process.poll() is not None:
            raise AssertionError(f"{self.kind} ended\n{self.log()}")
        try:
            return self.request("GET", "/healthcheck").status == 200
        except OSError:
            return False

    @cached_property
    def _trust(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=str(self.certificate))

    def _certify(self) -> None:
        wanted = ("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2")
        names = ("-subj", f"/CN={NAME}", "-addext", f"subjectAltName=DNS:{NAME},IP:127.0.0.1")
        files = ("-keyout", str(self._key), "-out", str(self.certificate))
        subprocess.run(
            [*OWNED, "openssl", *wanted, *names, *files], capture_output=True, timeout=RUN_SECONDS, check=True
        )

    def _configure_nginx(self) -> None:
        for name in ("spool", "cache"):
            (self.directory / name).mkdir()
        who = {"user": pwd.getpwuid(os.getuid()).pw_name, "group": grp.getgrgid(os.getgid()).gr_name}
        around = AROUND.format(directory=self.directory, **who)
        (self.directory / "nginx.conf").write_text(around, encoding="utf-8")
        different = {
            **self._backends,
            "listen 443 ssl": f"listen 127.0.0.1:{self.port} ssl",
            "listen [::]:443 ssl": f"listen 127.0.0.2:{self.port} ssl",  # a machine need not have IPv6
            f"/etc/ssl/pyrimage/{NAME}.crt": str(self.certificate),
            f"/etc/ssl/pyrimage/{NAME}.key": str(self._key),
            "allow 192.0.2.0/24;": "allow 127.0.0.0/24;",
        }
        (self.directory / "pyrimage.conf").write_text(replace(self._text, different), encoding="utf-8")

    def _configure_haproxy(self) -> None:
        pair = self.directory / "proxy.pem"
        pair.write_bytes(self.certificate.read_bytes() + self._key.read_bytes())
        different = {
            # Not everybody who tests may become another user.
            "    user haproxy\n": "",
            "    group haproxy\n": "",
            "    chroot /var/lib/haproxy\n": "",
            **self._backends,
            "bind 0.0.0.0:443 ssl": f"bind 127.0.0.1:{self.port} ssl",
            "bind :::443 v6only ssl": f"bind 127.0.0.2:{self.port} ssl",
            f"/etc/ssl/pyrimage/{NAME}.pem": str(pair),
            "src 192.0.2.0/24": "src 127.0.0.0/24",
        }
        (self.directory / "haproxy.cfg").write_text(replace(self._text, different), encoding="utf-8")


@contextlib.contextmanager
def run(kind: str, directory: Path, backend: int) -> Iterator[Proxy]:
    """Run a proxy in front of a port. Skips the test if it is not installed, and fails it in CI."""
    proxy = Proxy(kind, directory, block(LANGUAGES[kind]), {BACKEND: backend})
    try:
        proxy.start()
        yield proxy
    finally:
        proxy.stop()
        print(proxy.log()[-5000:])  # pytest shows it if the test failed
