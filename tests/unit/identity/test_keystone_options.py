"""``[keystone_authtoken]``: the names that operators know from Glance, and what is wrong with others."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from keystones import write_section
from pyrimage.errors import ConfigurationError
from pyrimage.identity.keystone import make_keystone
from pyrimage.identity.keystone.options import SECTION, read_options
from pyrimage.identity.keystone.tokens import Tokens
from pyrimage.stores import load_settings

URL = "https://keystone.example.org:5000/v3"
OPTIONS = {
    "auth_url": URL,
    "auth_type": "password",
    "username": "pyrimage",
    "password": "correct horse",
    "user_domain_id": "default",
    "project_name": "service",
    "project_domain_id": "default",
}


def read(directory: Path, **changed: str | None) -> Any:
    texts = {name: text for name, text in {**OPTIONS, **changed}.items() if text is not None}
    return read_options(str(write_section(directory, texts)))[SECTION]


def test_what_is_not_said_is_as_it_should_be(tmp_path: Path) -> None:
    options = read(tmp_path)
    assert {name: options[name] for name in OPTIONS} == OPTIONS
    assert (options.www_authenticate_uri, options.delay_auth_decision, options.insecure) == (URL, True, False)
    assert (options.http_connect_timeout, options.http_request_max_retries) == (5, 1)
    assert (options.service_token_roles, options.service_token_roles_required) == (["service"], True)
    assert (options.service_type, options.include_service_catalog, options.token_cache_time) == ("image", True, 300)


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("password", "%%a$b$$c${d}%%(e)s", "%a$b$$c${d}%(e)s"),  # as in every ini of PasteDeploy; a $ is itself
        ("region_name", "%(here)s", "HERE"),
        ("token_cache_time", "-1", -1),
        ("http_connect_timeout", "30", 30),
        ("http_request_max_retries", "0", 0),
        ("memcached_servers", "10.0.0.1:11211, 10.0.0.2:11211", ["10.0.0.1:11211", "10.0.0.2:11211"]),
        ("service_token_roles", "service,nova", ["service", "nova"]),
        ("www_authenticate_uri", "https://identity.example.org/", "https://identity.example.org/"),
        ("cafile", "HERE/pyrimage.ini", "HERE/pyrimage.ini"),  # any file
    ],
)
def test_an_option_is_read_as_what_it_is(name: str, text: str, value: Any, tmp_path: Path) -> None:
    expected = value.replace("HERE", str(tmp_path)) if isinstance(value, str) else value
    assert read(tmp_path, **{name: text.replace("HERE", str(tmp_path))})[name] == expected


@pytest.mark.parametrize(
    ("old", "new"), [("auth_plugin", "auth_type"), ("tenant_name", "project_name"), ("user_name", "username")]
)
def test_an_older_name_of_an_option_will_do(old: str, new: str, tmp_path: Path) -> None:
    assert read(tmp_path, **{new: None, old: OPTIONS[new]})[new] == OPTIONS[new]


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"usrname": "x"}, "usrname: there is no such option; did you mean username?"),
        ({"delay_auth_decison": "x"}, "delay_auth_decison: there is no such option; did you mean "),
        ({"auth_type": None}, "auth_type: it is not set; use password."),
        ({"auth_type": "pasword"}, "auth_type: pasword is not known; use password."),
        ({"auth_url": None}, "auth_url: it is not set."),
        ({"auth_url": "keystone:5000"}, "auth_url = keystone:5000: use an absolute URL"),
        ({"www_authenticate_uri": '"x"'}, 'www_authenticate_uri = "x": use an absolute URL'),
        ({"password": None}, "password: it is not set, and neither is PYRIMAGE_KEYSTONE_AUTHTOKEN_PASSWORD in"),
        ({"token_cache_time": "soon"}, "token_cache_time = soon: invalid literal"),
        ({"token_cache_time": "0"}, "token_cache_time: use a number of seconds, or -1"),
        ({"cafile": "/no/such/file"}, "cafile = /no/such/file: use the absolute path of a file"),
        ({"insecure": "true"}, "insecure: certificates are always checked"),
        ({"cache": "swift.cache"}, "cache: that is for Swift; use memcached_servers."),
        ({"auth_section": "x"}, "auth_section: write the options into this section."),
        ({"delay_auth_decision": "false"}, "delay_auth_decision: it is always in force; pyrimage.anonymous says"),
        ({"include_service_catalog": "false"}, "include_service_catalog: the rules of application credentials"),
        ({"password": "50%"}, "password: a literal % is written %%"),
        ({"memcache_security_strategy": "ROT13"}, "memcache_security_strategy = ROT13: "),
    ],
    ids=str,
)
def test_a_fault_is_an_error_that_names_the_option(changed: dict[str, str | None], says: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError) as caught:
        read(tmp_path, **changed)
    assert str(caught.value).startswith(f"[keystone_authtoken] {says}")
    assert "correct horse" not in str(caught.value)


def test_what_the_libraries_find_wrong_is_an_error_too(tmp_path: Path) -> None:
    section = {**OPTIONS, "memcache_security_strategy": "ENCRYPT"}
    with pytest.raises(ConfigurationError, match=r"^\[keystone_authtoken\]: memcache_secret_key must be defined"):
        Tokens(read_options(str(write_section(tmp_path, section))), "admin")


@pytest.mark.parametrize("text", [None, "", "[app:main]\n"])
def test_a_missing_section_is_an_error(text: str | None, tmp_path: Path) -> None:
    path = tmp_path / "pyrimage.ini"
    path.write_text(text or "", encoding="utf-8")
    with pytest.raises(ConfigurationError, match=r"needs a section \[keystone_authtoken\] in the ini file"):
        read_options(None if text is None else str(path))


def test_a_secret_may_stand_in_the_environment_where_the_section_has_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYRIMAGE_KEYSTONE_AUTHTOKEN_PASSWORD", "of the environment")
    monkeypatch.setenv("PYRIMAGE_KEYSTONE_AUTHTOKEN_USERNAME", "nobody")
    monkeypatch.setenv("OS_KEYSTONE_AUTHTOKEN__REGION_NAME", "nowhere")
    options = read(tmp_path, password=None)
    assert (options.password, options.username, options.region_name) == ("of the environment", "pyrimage", None)
    assert read(tmp_path).password == "correct horse"


def test_the_libraries_are_named_where_they_are_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("middleware", "options"):
        monkeypatch.delitem(sys.modules, f"pyrimage.identity.keystone.{name}", raising=False)
    monkeypatch.setitem(sys.modules, "keystonemiddleware.auth_token", None)
    settings = load_settings({"pyrimage.auth": "keystone", "pyrimage.stores": "http"})
    with pytest.raises(ConfigurationError, match=r"needs keystonemiddleware\S*, which is not installed.*pyrimage\[key"):
        make_keystone(lambda environ, start_response: [], settings, None)


def test_what_speaks_to_keystone_is_not_imported_without_it() -> None:
    program = "import sys, pyrimage.app; print({'keystonemiddleware', 'oslo_config'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
