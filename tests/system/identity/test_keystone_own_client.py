"""Our own client logs in at a real Keystone: with a password, and with the token that somebody got."""

import pytest

from pyrimage.client import Client, KeystoneToken, NotAuthenticated
from pyrimage.client.keystone import Keystone
from servers.keystone import Identity
from servers.keystone_accounts import ALICE, BOB, User
from servers.pyrimage import Server

pytestmark = pytest.mark.system


def login(identity: Identity, user: User, **more: str) -> Keystone:
    options = {
        "auth_url": identity.url,
        "username": user.name,
        "password": user.password,
        "user_domain_id": "default",
        "project_name": user.project,
        "project_domain_id": "default",
    }
    return Keystone(**{**options, **more})


def test_a_user_of_keystone_adds_and_shares_an_image(identity_service: Identity, server: Server) -> None:
    alice, bob = (Client(server.url, login(identity_service, user)) for user in (ALICE, BOB))
    image = alice.add_image(b"bytes", name="one")
    by_token = Client(server.url, KeystoneToken(login(identity_service, BOB).headers()["X-Auth-Token"]))
    other = bob.add_image(b"others", name="two")
    assert image.owner is not None
    assert other.owner is not None
    alice.add_member(image.id, other.owner)
    assert {each.id for each in by_token.get_images()} >= {image.id, other.id}
    assert b"".join(by_token.get_image(image.id)[1]) == b"bytes"
    alice.delete_image(image.id)


def test_a_wrong_password_is_told(identity_service: Identity, server: Server) -> None:
    with pytest.raises(NotAuthenticated, match="Keystone: "):
        list(Client(server.url, login(identity_service, ALICE, password="wrong")).get_images())
