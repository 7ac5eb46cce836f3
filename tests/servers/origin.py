"""A web server that images are fetched from: nginx, over files that the test writes.

::

    with origin.serving(tmp_path) as nginx:
        (nginx.static / "image").write_bytes(data)
        urlopen(f"{nginx.url}/image")
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from servers.machine import installed
from servers.processes import free_port, spawned, wait_for_port

# In one process: the workers of a master that is root could not read a directory that is only root's.
CONFIGURATION = """
daemon off;
master_process off;
pid nginx.pid;
events {{ worker_connections 512; }}
http {{
    access_log access.log;
    default_type application/octet-stream;
    client_body_temp_path body;
    proxy_temp_path proxy;
    fastcgi_temp_path fastcgi;
    uwsgi_temp_path uwsgi;
    scgi_temp_path scgi;
    server {{
        listen 127.0.0.1:{port};
        root static;
        location /norange/ {{ alias static/; max_ranges 0; }}
        location /slow/ {{ alias static/; limit_rate 100k; }}
        location /nolength/ {{ alias static/; gzip on; gzip_types *; gzip_min_length 1; }}
        location /redirect/ {{ rewrite ^/redirect/(.*)$ http://127.0.0.1:{port}/$1 redirect; }}
    }}
}}
"""


@dataclass(frozen=True)
class Origin:
    """Where nginx is.

    url: of ``static``, without its slash. Below ``/norange``, the same files come whole whatever range is asked for;
    below ``/slow``, with 100 KiB a second; below ``/nolength``, chunked to whoever accepts gzip; and ``/redirect``
    leads to them with a 302. directory: its logs are there, ``access.log`` and ``nginx.log``.
    """

    url: str
    static: Path
    directory: Path


@contextmanager
def serving(directory: Path) -> Iterator[Origin]:
    """Run nginx below a directory."""
    program, port = installed("nginx"), free_port()
    static, log, ini = directory / "static", directory / "nginx.log", directory / "nginx.conf"
    static.mkdir()
    ini.write_text(CONFIGURATION.format(port=port), encoding="utf-8")
    with spawned(program, "-p", str(directory), "-c", ini.name, "-e", str(log), log=log) as process:
        wait_for_port(process, port, log)
        yield Origin(f"http://127.0.0.1:{port}", static, directory)
