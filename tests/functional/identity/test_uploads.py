"""A token that ends while its upload runs."""

from collections.abc import Callable

import pytest
from sqlalchemy import update
from webob import Request

from conftest import Installation
from factories import data_headers
from faults import Body
from identity_calls import api_token
from pyrimage.catalogue.records import utcnow
from pyrimage.models import ClaimRow, TokenRow

DATA = bytes(range(256)) * 1024


def revoke(installation: Installation) -> None:
    assert installation.catalogue.tokens.revoke_all("alice") == 1


def expire(installation: Installation) -> None:
    with installation.engine.begin() as connection:
        connection.execute(update(TokenRow).values(expires_at=utcnow()))


@pytest.mark.parametrize("ending", [revoke, expire])
def test_the_upload_in_flight_ends_well_and_the_next_request_is_refused(
    installation: Installation, ending: Callable[[Installation], None]
) -> None:
    """S36."""

    def upload(body: Body) -> int:
        environ = {"REMOTE_ADDR": "127.0.0.1", "wsgi.input": body, "CONTENT_LENGTH": str(len(DATA))}
        headers = {**data_headers(name="f17"), "X-Auth-Token": secret}
        request = Request.blank("/v1/images", environ, method="POST", headers=headers)
        return int(request.get_response(installation.wsgi).status_int)

    _, secret = api_token(installation)
    assert upload(Body(DATA, lambda: ending(installation))) == 201
    [key] = installation.stored_keys()
    assert installation.rows(ClaimRow) == 0
    refused = Body(DATA)
    assert upload(refused) == 401
    assert refused.reads == 0
    assert installation.stored_keys() == [key]
