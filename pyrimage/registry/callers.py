"""Who asks: a server that signs for whomever it serves, or somebody by himself. Source: ours."""

from pyramid.request import Request

from ..environ import IS_SIGNED
from ..errors import Forbidden


def is_signed(request: Request) -> bool:
    """Say whether a server asks, which has the secret."""
    return IS_SIGNED in request.environ


def check_uploader(request: Request) -> None:
    """Refuse what only who has an image's bytes can say: a user with a token has none to show. Raises Forbidden."""
    if not is_signed(request) and not request.identity.is_admin:
        raise Forbidden("Servers that sign record uploads here, and administrators; upload at an API server.")
