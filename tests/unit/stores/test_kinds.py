"""``config.add_image_store``: which kinds of stores there can be."""

from dataclasses import dataclass
from typing import Any

import pytest
from pyramid.config import Configurator

import vault_store
from pyrimage.errors import ConfigurationError
from pyrimage.readers import setting
from pyrimage.stores import make_configurator, store_kinds
from pyrimage.stores.file import FileStoreFactory


def add(kind: str, factory: Any) -> Configurator:
    config = make_configurator({})
    config.add_image_store(kind, factory)
    return config


def test_a_plug_in_may_be_included_twice() -> None:
    config = make_configurator({"pyramid.includes": "vault_store pyrimage.stores"})
    config.include("vault_store")
    assert store_kinds(config) == {**store_kinds(make_configurator({})), "vault": vault_store.VaultStoreFactory}


def test_a_kind_has_one_factory() -> None:
    with pytest.raises(ConfigurationError, match="two kinds of store with the name file"):
        add("file", vault_store.VaultStoreFactory)


@pytest.mark.parametrize("kind", ["", "a:b", "a b", "a.b", "x" * 65])
def test_a_kind_has_a_name_that_settings_can_have(kind: str) -> None:
    with pytest.raises(ConfigurationError, match="cannot be the name of a kind of store"):
        add(kind, vault_store.VaultStoreFactory)


def test_a_kind_has_no_setting_of_the_service() -> None:
    @dataclass(frozen=True, kw_only=True)
    class Greedy(FileStoreFactory):
        auth: str = setting(str, "Taken.")

    with pytest.raises(ConfigurationError, match="Settings of the kind of store greedy are the service's: auth"):
        add("greedy", Greedy)
