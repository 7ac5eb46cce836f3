import dataclasses
import os
from collections.abc import Mapping
from pathlib import Path

import pytest

from pyrimage.errors import ConfigurationError
from pyrimage.masks import MASK, masked
from pyrimage.readers import SigningKey
from pyrimage.settings import (
    CONFIG_DIRECTORIES,
    Settings,
    StoreSettings,
    config_from_environment,
    find_config,
    read_settings,
    refuse_bare_names,
)
from pyrimage.stores.file import FileStoreFactory

INI = {"pyrimage.auth": "none", "pyrimage.filesystem_store_datadir": "/srv/images"}
KINDS = {"file": FileStoreFactory}


def read(ini: Mapping[str, str]) -> Settings:
    return read_settings(ini, KINDS)


def test_what_must_be_set_is_enough() -> None:
    assert read(INI) == Settings(
        application="api",
        auth="none",
        admin_role="admin",
        allow_anonymous=False,
        publicize_image="owner",
        public_endpoint=None,
        stores=(StoreSettings("file", "file", FileStoreFactory(filesystem_store_datadir=Path("/srv/images"))),),
        default_store="file",
        require_formats=False,
        token_lifetime=3600,
        limit_param_default=25,
        api_limit_max=1000,
        image_size_cap=None,
        image_property_quota=None,
        image_property_bytes=16_384,
        image_member_quota=None,
        user_image_quota=None,
        user_storage_quota=None,
        registry_secret=None,
        log_format=None,
        log_file=None,
        log_dir=None,
        log_date_format=None,
        database_prepared_statements=True,
        auto_migrate=False,
    )


def test_a_setting_without_its_prefix_is_told_and_other_names_are_anybodys() -> None:
    refuse_bare_names({**INI, "sqlalchemy.url": "sqlite://", "pyramid.includes": "", "colour": "red"}, KINDS)
    for key in ("image_size_cap", "filesystem_store_datadir", "file.filesystem_store_datadir"):
        with pytest.raises(ConfigurationError, match=f"{key} is no setting; did you mean pyrimage.{key}?"):
            refuse_bare_names({**INI, key: "3"}, KINDS)


@pytest.mark.parametrize("key", INI)
def test_what_must_be_set_is_named_with_its_meaning(key: str) -> None:
    with pytest.raises(ConfigurationError, match=rf"{key} is not set\. \w+"):
        read({name: text for name, text in INI.items() if name != key})


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        *(("allow_anonymous", text, True) for text in ("true", "True", " yes ", "on", "1")),
        *(("auto_migrate", text, False) for text in ("false", "FALSE", "no", "off", "0")),
        ("require_formats", "true", True),
        ("application", "registry", "registry"),
        ("publicize_image", "admin", "admin"),
        ("default_store", "file", "file"),
        ("public_endpoint", "https://images.example.org/", "https://images.example.org"),
        ("public_endpoint", "http://[::1]:9292/a/b", "http://[::1]:9292/a/b"),
        *(("image_size_cap", text, 2**40) for text in ("1099511627776", "1TB", "1024 GB", "1073741824KB")),
        *(("user_storage_quota", text, value) for text, value in [("1B", 1), ("500MB", 500 * 2**20), ("0", None)]),
        *(("image_property_quota", text, value) for text, value in [("0", 0), ("128", 128), ("-1", None)]),
        *(("image_property_bytes", text, value) for text, value in [("64KB", 65_536), ("1", 1), ("0", None)]),
        ("limit_param_default", "1", 1),
        *(("token_lifetime", text, int(text)) for text in ("1", "31536000")),
        ("api_limit_max", "10000", 10_000),
        ("log_format", " %(message)s\n", "%(message)s"),
        ("log_date_format", "%H:%M", "%H:%M"),
        *(("log_file", text, text) for text in ("api.log", "/var/log/api.log")),
        ("users_file", "/no/such/users", Path("/no/such/users")),  # told when it is read
        ("log_dir", "/no/such/place", Path("/no/such/place")),  # told when the log is opened
        ("audit_log", "/no/such/place", Path("/no/such/place")),  # likewise
    ],
)
def test_a_value_that_can_work(name: str, text: str, value: object) -> None:
    assert getattr(read({**INI, f"pyrimage.{name}": text}), name) == value


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        *(("auth", text, "use none or users or keystone") for text in ("", "None", "noauth", "basic", "Keystone")),
        *(("allow_anonymous", text, "use true or false") for text in ("", "maybe", "2")),
        *(("anonymous", text, "use none or public") for text in ("", "all", "true")),
        ("anonymous", "public", "with pyrimage.auth = none everybody is an administrator"),
        *(("publicize_image", text, "use owner or admin") for text in ("", "everybody", "Owner")),
        *(("application", text, "use api or registry") for text in ("", "glance", "API")),
        *(("default_store", text, "use file") for text in ("", "swift", "s3")),
        *(("public_endpoint", text, "absolute URL") for text in ("", "images.example.org", "ftp://host", "http://")),
        *(("public_endpoint", text, "absolute URL") for text in ("//host", "http://host/?a=b", "http://host/#a")),
        *(("filesystem_store_datadir", text, "absolute path") for text in ("", "var/images", "./images")),
        *((name, __file__, "not a directory") for name in ("filesystem_store_datadir", "log_dir")),
        *(("audit_log", text, "absolute path of a file") for text in ("", "audit.log", "./audit.log", "/tmp")),
        *(("log_dir", text, "absolute path") for text in ("", "log", "./log")),
        *((name, "users", "absolute path") for name in ("users_file", "htpasswd_file")),
        *(("image_size_cap", text, "use a number of bytes") for text in ("", "-1", "1.5GB", "1gb", "GB", "1KiB")),
        *(("user_image_quota", text, "use a whole number") for text in ("", "-2", "ten", "1_0", "1MB", "9" * 10)),
        *(("token_lifetime", text, "from 1 to 31536000") for text in ("", "0", "-1", "1h", "31536001", "9" * 30)),
        *(("api_limit_max", text, "from 1 to 10000") for text in ("", "0", "-1", "x", "10001")),
    ],
)
def test_a_value_that_cannot_work_is_named_with_what_can(name: str, text: str, says: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        read({**INI, f"pyrimage.{name}": text})
    assert str(caught.value).startswith(f"pyrimage.{name} = {text}: ")
    assert says in str(caught.value)


@pytest.mark.parametrize(
    ("key", "near"),
    [
        ("pyrimage.allow_anonymus", "pyrimage.allow_anonymous"),
        ("pyrimage.store_datadir", "pyrimage.filesystem_store_datadir"),
        ("pyrimage.Auth", "pyrimage.auth"),
        ("pyrimage.zzz", "pyrimage."),
        ("pyrimage.", "pyrimage."),
    ],
)
def test_an_unknown_key_is_refused_with_the_nearest_known_one(key: str, near: str) -> None:
    with pytest.raises(ConfigurationError, match=f"Unknown setting {key}; did you mean {near}"):
        read({**INI, key: "x"})


def test_keys_of_others_are_left_to_them() -> None:
    others = {"sqlalchemy.url": "sqlite://", "pyramid.reload_templates": "x", "auth": "x", "pyrimages.x": "x"}
    assert read({**INI, **others}) == read(INI)


@pytest.mark.parametrize("field", dataclasses.fields(Settings))
def test_every_setting_is_described(field: "dataclasses.Field[object]") -> None:
    assert field.metadata["doc"].endswith(".")


FIRST, SECOND = "0123456789 abcdef", "=+/\u00e9#%&;!$'\"abcde"


@pytest.mark.parametrize(
    ("text", "keys"),
    [
        (f" {FIRST} ", [("", FIRST)]),
        (SECOND, [("", SECOND)]),
        (f"2026:{FIRST}", [("2026", FIRST)]),
        (f"2026-a.b_C : {FIRST} ,\n old:{SECOND}", [("2026-a.b_C", FIRST), ("old", SECOND)]),
        (f"a:{FIRST},b:{SECOND},c:{FIRST}", [("a", FIRST), ("b", SECOND), ("c", FIRST)]),
    ],
)
def test_the_registrys_keys_are_a_secret_or_several_with_ids(text: str, keys: list[tuple[str, str]]) -> None:
    found = read({**INI, "pyrimage.registry_secret": text}).registry_secret
    assert found == tuple(SigningKey(*key) for key in keys)
    assert "abcdef" not in repr(found)  # S44


@pytest.mark.parametrize(
    "text",
    [
        *("", "hunter2", "fifteen letters", "a:hunter2", f"a:{FIRST},b:hunter2", "a:    fifteen letters"),
        *(f":{FIRST}", f"a b:{FIRST}", f"\u00e9:{FIRST}", f"{'i' * 65}:{FIRST}", f"a:b:{FIRST}", f"a:{FIRST}:"),
        *(f"{FIRST},{SECOND}", f"{FIRST},a:{SECOND}", f"a:{FIRST},{SECOND}", f"a:{FIRST},a:{SECOND}"),
        *(f"a:{FIRST},", f",a:{FIRST}", f"a:{FIRST},,b:{SECOND}", f"{FIRST}\n{SECOND}", f"{FIRST}\udcff"),
    ],
)
def test_a_secret_that_is_too_short_or_could_be_two_is_refused_and_not_shown(text: str) -> None:
    """S44."""
    with pytest.raises(ConfigurationError) as caught:
        read({**INI, "pyrimage.registry_secret": text})
    assert str(caught.value) == (
        "pyrimage.registry_secret = ***: use 16 characters or more, without colon and comma; or several such, each "
        "with an id of its own: id:secret, id:secret."
    )


SECRETS = ("the secret of the ini", "the secret of the environment")


@pytest.mark.parametrize(
    ("ini", "environment", "secret"),
    [(0, None, SECRETS[0]), (None, 1, SECRETS[1]), (0, 1, SECRETS[0]), (None, None, None)],
)
def test_a_secret_may_stand_in_the_environment(
    ini: int | None, environment: int | None, secret: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    if environment is not None:
        monkeypatch.setenv("PYRIMAGE_REGISTRY_SECRET", SECRETS[environment])
    keys = {} if ini is None else {"pyrimage.registry_secret": SECRETS[ini]}
    settings = read({**INI, **keys})
    assert settings.registry_secret == (None if secret is None else (SigningKey("", secret),))
    assert "secret" not in repr(settings)  # S44


def test_an_empty_secret_of_the_environment_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYRIMAGE_REGISTRY_SECRET", "")
    assert read(INI).registry_secret is None


# Settings for people to read

WORD = "S3cr3t"
SECRET_NAMES = [field.name for field in dataclasses.fields(Settings) if field.metadata["secret"]]


@pytest.mark.parametrize("name", SECRET_NAMES)
def test_every_secret_of_ours_is_masked(name: str) -> None:
    """S44."""
    assert (masked(f"pyrimage.{name}", WORD), masked(name, WORD)) == (MASK, MASK)
    assert name not in repr(read({**INI, f"pyrimage.{name}": WORD * 3}))


def test_a_secret_that_is_not_set_is_shown_so() -> None:
    assert masked("pyrimage.registry_secret", None) == "None"


@pytest.mark.parametrize(
    "key",
    [
        *("password", "db_password", "sqlalchemy.connect_args.passwd", "PassWord", "passphrase", "mail.pass", "pwd"),
        *("client-secret", "Secret", "token", "auth_token", "keystone_authtoken", "aws.credentials"),
        *("dsn", "key", "swift.key", "access_key", "api-key", "apikey", "private_key", "key_id"),
    ],
)
def test_a_value_is_masked_where_its_name_looks_secret(key: str) -> None:
    """S44, S46."""
    assert masked(key, WORD) == MASK


URLS = {
    "postgresql+psycopg://glance:{}@db:5432/images": "postgresql+psycopg://glance:***@db:5432/images",
    "postgresql://glance:a@{}@db/images": "postgresql://glance:***@db/images",
    "postgresql://glance:{}:@db/images": "postgresql://glance:***@db/images",
    "postgresql://glance:a:{}@db/images": "postgresql://glance:***@db/images",
    "postgresql://glance:a/{}@db/images": "postgresql://glance:***@db/images",
    "postgresql://glance:a?{}#@db/images": "postgresql://glance:***@db/images",
    "postgresql://glance:%40{}%2F@db/images": "postgresql://glance:***@db/images",
    "postgresql://gl%40nce:{}@db/images": "postgresql://gl%40nce:***@db/images",
    "mysql+pymysql://glance@tenant:{}@db/images": "mysql+pymysql://glance@tenant:***@db/images",
    "postgresql://glance:a\n{}@db/images": "postgresql://glance:***@db/images",
    "redis://:{}@cache/0": "redis://:***@cache/0",
    "https://user:{}@example.org": "https://user:***@example.org",
    "postgresql://db/images?user=x&password={}": "postgresql://db/images?user=x&password=***",
    "postgresql://db/images?password={}&user=x": "postgresql://db/images?password=***&user=x",
    "postgresql://db/images?password=a;{}": "postgresql://db/images?password=***",
    "postgresql://u@db/i?sslpassword={}&sslmode=require": "postgresql://u@db/i?sslpassword=***&sslmode=require",
    "mysql://db/images?passwd={}": "mysql://db/images?passwd=***",
    "https://example.org/a?X-Amz-Security-Token={}&b=1": "https://example.org/a?X-Amz-Security-Token=***&b=1",
}


@pytest.mark.parametrize(("url", "shown"), URLS.items(), ids=URLS)
def test_of_a_url_all_is_shown_but_its_password(url: str, shown: str) -> None:
    """S44, S46."""
    assert masked("sqlalchemy.url", url.format(WORD)) == shown


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://glance:{0}@db/images?password={0}",
        "postgresql://db/images?Password={0}&sslpassword={0}@x",
        "postgresql://glance:a@b:{0}/c@db:5432/images",
        "//glance:{0}@db/images",
        "postgresql//glance:{0}@db/images",
        "postgresql:glance:{0}@db/images",
        "glance:{0}@db/images",
        "{0}",
    ],
)
def test_no_password_of_a_url_is_shown_however_it_is_spelled(url: str) -> None:
    """S44: the operator may have it wrong."""
    assert WORD not in masked("sqlalchemy.url", url.format(WORD))


@pytest.mark.parametrize(
    "text",
    [
        '{{"user": "u", "password": "{0}"}}',
        "{{'sslpassword': '{0}'}}",
        "host=db user=u password={0}",
        "DRIVER=x;PWD={0}",
        "api_key: {0}",
    ],
)
def test_a_value_that_holds_a_named_secret_is_masked(text: str) -> None:
    """S44."""
    assert masked("sqlalchemy.connect_args", text.format(WORD)) == MASK


PLAIN = {
    "pyrimage.token_lifetime": "3600",
    "pyrimage.htpasswd_file": "/var/lib/pyrimage/htpasswd",
    "sqlalchemy.url": "sqlite:////var/lib/pyrimage/a:b@c.sqlite",
    "sqlalchemy.pool_size": "5",
    "pyrimage.keystone_region": "here",
    "pyrimage.public_endpoint": "https://images.example.org:9292/a",
    "pyrimage.filesystem_store_datadir": "/srv/images",
    "pyrimage.log_format": "%(asctime)s [%(name)s] %(message)s",
    "listen": "127.0.0.1:9292 [::1]:9292",
}


@pytest.mark.parametrize("key", PLAIN)
def test_what_is_no_secret_is_shown_as_it_is(key: str) -> None:
    assert masked(key, PLAIN[key]) == PLAIN[key]


def test_whatever_is_no_text_is_shown_as_text() -> None:
    values = {"pyrimage.log_dir": Path("/var/log"), "pyrimage.image_size_cap": 5, "pyrimage.auto_migrate": False}
    assert [masked(key, value) for key, value in values.items()] == ["/var/log", "5", "False"]


def test_settings_do_not_change() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        read(INI).auth = "other"  # type: ignore[misc]


@pytest.fixture
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The directories below which a configuration may lie here, best first."""
    here, home = tmp_path / "here", tmp_path / "home"
    for directory in (here, home / ".pyrimage"):
        directory.mkdir(parents=True)
    monkeypatch.chdir(here)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.delenv("PYRIMAGE_CONFIG", raising=False)
    return [here, home / ".pyrimage", home]


@pytest.mark.parametrize("first", [0, 1, 2])
def test_the_first_configuration_found_wins(first: int, places: list[Path]) -> None:
    for place in places[first:]:
        (place / "pyrimage.ini").write_text("")
    assert find_config() == config_from_environment() == places[first] / "pyrimage.ini"


def test_a_directory_is_no_configuration(places: list[Path]) -> None:
    (places[0] / "pyrimage.ini").mkdir()
    (places[2] / "pyrimage.ini").write_text("")
    assert find_config() == places[2] / "pyrimage.ini"


@pytest.mark.usefixtures("places")
def test_where_no_configuration_is_the_places_are_named() -> None:
    with pytest.raises(ConfigurationError) as caught:
        find_config()
    assert [place for place in CONFIG_DIRECTORIES if place not in str(caught.value)] == []


def test_a_user_without_a_home_has_the_other_places(places: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HOME")
    monkeypatch.setattr(os, "getuid", lambda: 4_000_000_000)
    with pytest.raises(ConfigurationError, match="No pyrimage"):
        find_config()
    (places[0] / "pyrimage.ini").write_text("")
    assert find_config() == places[0] / "pyrimage.ini"


def test_the_environment_names_the_configuration(places: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    (places[0] / "pyrimage.ini").write_text("")
    monkeypatch.setenv("PYRIMAGE_CONFIG", "../other.ini")
    assert config_from_environment() == places[0] / "../other.ini"


def test_the_documented_places() -> None:
    assert CONFIG_DIRECTORIES == (".", "~/.pyrimage", "~", "/etc/pyrimage", "/etc")
