"""The page about the client: every block of Python runs, and everything public is named."""

import gzip
import re
from pathlib import Path
from typing import Any

import pytest

import pyrimage.client
from client_sites import Site
from pyrimage.client import Client, ClientError
from servers.machine import ROOT

PAGE = (ROOT / "docs/client.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
PRINTED = "http://127.0.0.1:9292"


def test_every_block_runs_in_the_order_of_the_page(
    site: Site, guide: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    data = b"the bytes of a disk" * 100_000
    Path("disk.raw").write_bytes(data)
    Path("disk.raw.gz").write_bytes(gzip.compress(data, 1))
    names: dict[str, Any] = {"image_id": guide.add_image(data, name="another").id}
    for block in BLOCKS:
        code = block.replace(PRINTED, site.url).replace(', ca_file="/etc/ssl/our-ca.pem"', "")
        exec(compile(code, "docs/client.md", "exec"), names)  # noqa: S102
        if "example.org" in code:
            names["client"] = guide  # those services are not there
    assert {Path(name).read_bytes() == data for name in ("copy.raw", "big.raw")} == {True}
    output = capsys.readouterr().out
    assert "404 req-" in output
    assert f"{len(data)} of {len(data)} bytes" in output


def test_every_method_and_every_error_is_named() -> None:
    errors = [name for name in pyrimage.client.__all__ if issubclass(getattr(pyrimage.client, name), ClientError)]
    assert {name for name in vars(Client) if name[0] != "_" and f"`{name}(" not in PAGE} == set()
    assert {name for name in errors if f"`{name}`" not in PAGE} == set()
