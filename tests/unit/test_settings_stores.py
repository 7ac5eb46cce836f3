"""Stores in the ini: their names, the keys of each, and what their kinds say of them."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from pyrimage.errors import ConfigurationError
from pyrimage.masks import MASK
from pyrimage.readers import flag, setting, word
from pyrimage.settings import (
    STORE_NAME_LENGTH,
    Settings,
    read_settings,
    refuse_bare_names,
    shown_settings,
    store_directories,
)
from pyrimage.stores.file import FileStoreFactory

LONGEST = "x" * STORE_NAME_LENGTH


def secret(text: str) -> str:
    if len(text) < 3:
        raise ValueError("use three letters or more")
    return text


@dataclass(frozen=True, slots=True, kw_only=True)
class CloudStoreFactory:
    cloud_store_user: str = setting(str, "Who asks.")
    cloud_store_auth: str | None = setting(secret, "What proves it.", secret=True, default=None)
    cloud_store_tls: bool = setting(flag, "Whether to encrypt.", default=True)
    cloud_store_region: str | None = setting(word("eu", "us"), "Where.", default=None)

    def __post_init__(self) -> None:
        if self.cloud_store_region == "us" and not self.cloud_store_tls:
            raise ValueError("there is no region us without cloud_store_tls")


KINDS = {"file": FileStoreFactory, "cloud": CloudStoreFactory}


def read(**keys: str) -> Settings:
    """Read an ini of these keys; ``__`` stands for a dot."""
    return read_settings(ini_of(keys), KINDS)


def ini_of(keys: Mapping[str, str]) -> dict[str, str]:
    return {"pyrimage.auth": "none", **{f"pyrimage.{name.replace('__', '.')}": text for name, text in keys.items()}}


def refusal(**keys: str) -> str:
    with pytest.raises(ConfigurationError) as refused:
        read(**keys)
    return str(refused.value)


def stores_of(settings: Settings) -> dict[str, Any]:
    return {store.name: store.factory for store in settings.stores}


# -- names


@pytest.mark.parametrize(
    ("text", "kinds"),
    [
        ("file", {"file": "file"}),
        (" fast : file ", {"fast": "file"}),
        ("cloud,\n  a-B_9:cloud", {"cloud": "cloud", "a-B_9": "cloud"}),
        (f"{LONGEST}:cloud, file:cloud", {LONGEST: "cloud", "file": "cloud"}),
    ],
)
def test_stores_have_names_and_kinds(text: str, kinds: dict[str, str]) -> None:
    users = {f"{name}__cloud_store_user": "u" for name, kind in kinds.items() if kind == "cloud"}
    directories = {f"{name}__filesystem_store_datadir": "/srv" for name, kind in kinds.items() if kind == "file"}
    settings = read(stores=text, **users, **directories)
    assert {store.name: store.kind for store in settings.stores} == kinds
    assert settings.default_store == next(iter(kinds))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        *((text, "use names of up to 64 letters") for text in ("", "file,", ",file", "fast:", ":file", "a b:file")),
        *((text, "use names of up to 64 letters") for text in ("a:b:file", "fast.x:file", "-a:file", "\u00e9:file")),
        (f"{LONGEST}x:file", "use names of up to 64 letters"),
        *((text, "twice") for text in ("file, file", "a:file, a:cloud", "a-b:file, A_b:cloud")),
        *((f"{name}:file", f"{name} is the name of a setting") for name in ("auth", "stores", "public_endpoint")),
        ("fast:disk", "disk is no kind of store here; use file or cloud"),
        ("s3", "s3 is no kind of store here"),
    ],
)
def test_a_list_of_stores_that_cannot_be_is_refused(text: str, says: str) -> None:
    told = refusal(stores=text, filesystem_store_datadir="/srv")
    assert told.startswith(f"pyrimage.stores = {text}: ")
    assert says in told


def test_the_default_store_is_one_of_the_list() -> None:
    keys = {"stores": "a:cloud, b:file", "cloud_store_user": "u", "filesystem_store_datadir": "/srv"}
    assert read(**keys, default_store="b").default_store == "b"
    for name in ("", "cloud", "c"):  # a kind is no name
        assert refusal(**keys, default_store=name) == f"pyrimage.default_store = {name}: use a or b."


@pytest.mark.parametrize(
    ("text", "found"), [("a", "a"), ("b", "b"), ("cloud", "cloud"), ("file", "b"), ("c", "c"), ("s3", None), ("", None)]
)
def test_a_client_names_a_store_or_a_kind_for_its_first_one(text: str, found: str | None) -> None:
    """``cloud`` is the name of a file store here, and a name goes first."""
    users = {f"{name}__cloud_store_user": "u" for name in ("a", "d")}
    directories = {f"{name}__filesystem_store_datadir": f"/srv/{name}" for name in ("b", "c", "cloud")}
    settings = read(stores="a:cloud, b:file, c:file, cloud:file, d:cloud", **users, **directories)
    assert settings.find_store(text) == found


# -- keys


def test_each_store_has_its_own_keys() -> None:
    stores = stores_of(
        read(
            stores="a:cloud, b:cloud, file",
            a__cloud_store_user="x",
            b__cloud_store_user=" y ",
            b__cloud_store_tls="no",
            filesystem_store_datadir="/srv",
        )
    )
    assert stores == {
        "a": CloudStoreFactory(cloud_store_user="x"),
        "b": CloudStoreFactory(cloud_store_user="y", cloud_store_tls=False),
        "file": FileStoreFactory(filesystem_store_datadir=Path("/srv")),
    }


def test_where_a_kind_is_there_once_its_keys_need_no_name() -> None:
    keys = {"stores": "a:cloud, b:file", "b__filesystem_store_datadir": "/srv"}
    assert read(**keys, cloud_store_user="x") == read(**keys, a__cloud_store_user="x")


REFUSED = {
    "a key that could be for several": (
        {"stores": "a:file, b:file", "filesystem_store_datadir": "/srv"},
        "pyrimage.filesystem_store_datadir could be for several stores; "
        "use pyrimage.a.filesystem_store_datadir or pyrimage.b.filesystem_store_datadir.",
    ),
    "a key that is set with and without the name": (
        {"filesystem_store_datadir": "/srv", "file__filesystem_store_datadir": "/srv"},
        "pyrimage.filesystem_store_datadir and pyrimage.file.filesystem_store_datadir are the same setting: "
        "set one of them.",
    ),
    "a key of a kind that no store has": (
        {"filesystem_store_datadir": "/srv", "cloud_store_user": "x"},
        "pyrimage.cloud_store_user is for stores of the kind cloud, of which pyrimage.stores names none.",
    ),
    "a misspelt key": (
        {"stores": "fast:file", "fast__filesystem_store_datadr": "/srv"},
        "Unknown setting pyrimage.fast.filesystem_store_datadr; did you mean pyrimage.fast.filesystem_store_datadir?",
    ),
    "a misspelt store": (
        {"stores": "fast:file", "fats__filesystem_store_datadir": "/srv"},
        "Unknown setting pyrimage.fats.filesystem_store_datadir; did you mean pyrimage.fast.filesystem_store_datadir?",
    ),
    "a key of another kind": (
        {"stores": "fast:file, slow:cloud", "fast__cloud_store_user": "x"},
        "Unknown setting pyrimage.fast.cloud_store_user; did you mean pyrimage.cloud_store_user?",
    ),
    "a key of the service in a store's name": (
        {"file__auth": "none", "filesystem_store_datadir": "/srv"},
        "Unknown setting pyrimage.file.auth; did you mean",
    ),
    "a key that must be set": (
        {"stores": "a:cloud, b:cloud", "a__cloud_store_user": "x"},
        "pyrimage.b.cloud_store_user is not set. Who asks.",
    ),
    "a key that must be set, of the only store": (
        {"stores": "a:file"},
        "pyrimage.filesystem_store_datadir is not set. Where",
    ),
    "a wrong value": (
        {"stores": "a:file", "a__filesystem_store_datadir": "images"},
        "pyrimage.a.filesystem_store_datadir = images: use an absolute path",
    ),
    "a place that is none": (
        {"filesystem_store_datadir": __file__},
        f"pyrimage.filesystem_store_datadir = {__file__}: is not a directory.",
    ),
    "no place": ({"filesystem_store_datadir": ""}, "pyrimage.filesystem_store_datadir = : use an absolute path"),
    "settings that do not go together": (
        {"stores": "a:cloud", "cloud_store_user": "x", "cloud_store_tls": "no", "a__cloud_store_region": "us"},
        "The settings of the store a: there is no region us without cloud_store_tls.",
    ),
}


@pytest.mark.parametrize(("keys", "told"), REFUSED.values(), ids=REFUSED)
def test_a_key_of_a_store_that_cannot_be_is_refused(keys: dict[str, str], told: str) -> None:
    assert refusal(**keys).startswith(told)


def test_a_key_of_a_store_without_its_prefix_is_told() -> None:
    section = ini_of({"stores": "a:file, b:file"}) | {"filesystem_store_datadir": "x"}
    refuse_bare_names(section, KINDS)  # it could be for several, and so it is for none: both are missing
    with pytest.raises(ConfigurationError, match=r"a\.filesystem_store_datadir is no setting; did you mean pyrimage\."):
        refuse_bare_names(section | {"a.filesystem_store_datadir": "x"}, KINDS)


def test_the_directories_of_stores_are_known() -> None:
    users = {"cloud_store_user": "u", "a__filesystem_store_datadir": "/a", "b__filesystem_store_datadir": "/b"}
    assert store_directories(read(stores="a:file, cloud, b:file", **users)) == [Path("/a"), Path("/b")]


# -- secrets

WORD = "S3cr3t"


def test_a_secret_of_a_store_is_shown_nowhere() -> None:
    """S44."""
    settings = read(stores="a:cloud", cloud_store_user="u", a__cloud_store_auth=WORD)
    shown = shown_settings(settings)
    assert shown["pyrimage.a.cloud_store_auth"] == MASK
    assert shown["pyrimage.a.cloud_store_user"] == "u"
    assert WORD not in repr(settings) + str(shown)
    assert refusal(stores="a:cloud", cloud_store_user="u", a__cloud_store_auth="S3") == (
        "pyrimage.a.cloud_store_auth = ***: use three letters or more."
    )


def test_all_settings_are_shown_by_their_keys() -> None:
    shown = shown_settings(read(stores="a:cloud, file", cloud_store_user="u", filesystem_store_datadir="/srv"))
    assert shown.items() >= {
        ("pyrimage.stores", "a:cloud, file:file"),
        ("pyrimage.a.cloud_store_auth", "None"),
        ("pyrimage.file.filesystem_store_datadir", "/srv"),
        ("pyrimage.auth", "none"),
        ("pyrimage.registry_secret", "None"),
    }


@pytest.mark.parametrize("variable", ["PYRIMAGE_CLOUD_STORE_AUTH", "PYRIMAGE_A_B_CLOUD_STORE_AUTH"])
def test_a_secret_of_a_store_may_stand_in_the_environment(variable: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(variable, WORD)
    keys = {"stores": "a-b:cloud", "cloud_store_user": "u"}
    assert stores_of(read(**keys))["a-b"].cloud_store_auth == WORD
    assert stores_of(read(**keys, cloud_store_auth="other"))["a-b"].cloud_store_auth == "other"


def test_a_secret_of_the_environment_is_for_the_store_that_it_names(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, text in {"CLOUD": "nobody's", "A_CLOUD": "a's", "B_CLOUD": ""}.items():
        monkeypatch.setenv(f"PYRIMAGE_{name}_STORE_AUTH", text)
    stores = stores_of(read(stores="a:cloud, b:cloud", a__cloud_store_user="u", b__cloud_store_user="v"))
    assert [(each.cloud_store_user, each.cloud_store_auth) for each in stores.values()] == [("u", "a's"), ("v", None)]


def test_what_is_no_secret_is_not_read_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYRIMAGE_CLOUD_STORE_REGION", "eu")
    (store,) = stores_of(read(stores="cloud", cloud_store_user="u")).values()
    assert store.cloud_store_region is None
