"""The name of the file in which a client saves an image."""

import re
from pathlib import PurePath
from urllib.parse import unquote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from factories import make_image
from pyrimage.api.v1.responses import MAX_FILE_NAME, content_disposition, file_name
from pyrimage.catalogue.records import CONTAINER_FORMATS, DISK_FORMATS


@pytest.mark.parametrize(
    ("name", "disk", "container", "file"),
    [
        ("Ubuntu 24.04", "qcow2", "bare", "Ubuntu 24.04.qcow2"),
        ("Ubuntu 24.04", None, None, "Ubuntu 24.04"),
        *((name, "qcow2", "bare", name) for name in ("a.qcow2", "a.QCOW2", "a.qcow2.qcow2")),
        ("qcow2", "qcow2", "bare", "qcow2.qcow2"),
        ("a.qcow2", "vmdk", "bare", "a.qcow2.vmdk"),
        *(("a", disk, "bare", f"a.{disk}") for disk in DISK_FORMATS),
        *((name, "raw", "bare", name) for name in ("a.raw", "a.IMG")),
        *(("a", disk, "ova", "a.ova") for disk in (None, "vmdk")),
        *((name, "raw", "docker", "a.tar") for name in ("a", "a.tar")),
        *(("a", disk, None, "a") for disk in ("gpt", "x\r\ny", "../x")),  # of a row that something else wrote
        (None, "iso", "bare", "an-id.iso"),
        ("", None, None, "an-id"),
        ("../../etc/passwd", None, None, "__.._etc_passwd"),
        ("..", None, None, "_"),
        (".bashrc", None, None, "_bashrc"),
        ("C:\\boot.ini", None, None, "C:_boot.ini"),
        ("a\r\nSet-Cookie: b\x00\x7f\x85", None, None, "a__Set-Cookie: b___"),
        ("gpj.\u202eexe", None, None, "gpj._exe"),
        *(("n" * length + more, "qcow2", None, "n" * 249 + ".qcow2") for length, more in ((255, ""), (249, ".qcow2"))),
        ("a" + "日" * 255, "qcow2", None, "a" + "日" * 82 + ".qcow2"),
    ],
    ids=ascii,
)
def test_the_ending_tells_the_format_and_no_name_leads_elsewhere(
    name: str | None, disk: str | None, container: str | None, file: str
) -> None:
    assert file_name(make_image(id="an-id", name=name, disk_format=disk, container_format=container)) == file


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("a;b='c',d", "filename=\"a;b='c',d.iso\""),
        ('say "hi"', "filename=\"say _hi_.iso\"; filename*=UTF-8''say%20%22hi%22.iso"),
        ("100%41", "filename=\"100_41.iso\"; filename*=UTF-8''100%2541.iso"),
        ("é'()*!#$&+^`|~", "filename=\"_'()*!#$&+^`|~.iso\"; filename*=UTF-8''%C3%A9%27%28%29%2A!#$&+^`|~.iso"),
    ],
)
def test_a_name_that_not_every_client_reads_as_it_is_comes_twice(name: str, value: str) -> None:
    """RFC 6266, appendix D; RFC 8187, 3.2.1, for what needs no encoding."""
    assert content_disposition(make_image(name=name, disk_format="iso")) == f"attachment; {value}"


TEXTS = st.text(max_size=300) | st.text(st.sampled_from("a./\\\"%;=' é日\u202e"), max_size=300)


@settings(max_examples=50)
@given(name=TEXTS, disk=st.sampled_from([None, *DISK_FORMATS]), container=st.sampled_from([None, *CONTAINER_FORMATS]))
def test_every_name_is_one_file_s_and_one_header_s(name: str, disk: str | None, container: str | None) -> None:
    image = make_image(name=name, disk_format=disk, container_format=container)
    file = file_name(image)
    assert PurePath(file).name == file
    assert not file.startswith(".")
    assert 1 <= len(file.encode()) <= MAX_FILE_NAME
    value = re.fullmatch(
        r"attachment; filename=\"([ !#$&-\[\]-~]+)\"(?:; filename\*=UTF-8''([!#$&+^`|~%\w.-]+))?",
        content_disposition(image),
        re.ASCII,
    )
    assert value
    assert file == (value[1] if value[2] is None else unquote(value[2], errors="strict"))
