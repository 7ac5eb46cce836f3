"""The request, with what the views need."""

import re
from urllib.parse import quote, unquote_to_bytes

from pyramid.decorator import reify
from pyramid.request import Request as PyramidRequest
from pyramid_tm import explicit_manager
from transaction import TransactionManager
from webob.multidict import MultiDict

from ..catalogue.interfaces import Catalogue, Writes
from ..errors import Invalid
from ..settings import Settings
from ..stores import Stores
from ..uploads.claims import LiveClaims
from ..uploads.data_manager import Upload

# Headers with which a caller proves who it is, to us or to a proxy, as the WSGI environ names them.
_CREDENTIALS = frozenset(
    f"HTTP_{name}"
    for name in (
        *("AUTHORIZATION", "PROXY_AUTHORIZATION", "COOKIE"),
        *("X_AUTH_TOKEN", "X_AUTH_KEY", "X_STORAGE_TOKEN", "X_STORAGE_PASS", "X_SERVICE_TOKEN", "X_SUBJECT_TOKEN"),
    )
)


class Request(PyramidRequest):
    """A request with what the views need, each made at its first use.

    Attributes of the class: Pyramid's ``add_request_method`` would build a new class for every request.
    """

    upload: Upload | None = None

    @reify
    def tm(self) -> TransactionManager:
        """The transaction manager of this request alone."""
        return explicit_manager(self)

    @property
    def has_credentials(self) -> bool:
        """Whether there are headers with which a client proves who it is; it may send them on to where it is sent."""
        return not _CREDENTIALS.isdisjoint(self.environ)

    @property
    def catalogue(self) -> Catalogue:
        """What is known about images; each question has a short connection of its own."""
        catalogue: Catalogue = self.registry["pyrimage.catalogue"]
        return catalogue

    @reify
    def writes(self) -> Writes:
        """The changes of the catalogue that commit with the request's transaction."""
        return self.catalogue.writes(self.tm, self.identity)

    @reify
    def GET(self) -> MultiDict:  # noqa: N802 - the name is WebOb's
        """The parameters of the query; WebOb takes time to decode them that grows with the square of their length."""
        query = self.environ.get("QUERY_STRING", "").encode("latin-1").replace(b"+", b" ")
        pairs = (pair.partition(b"=") for pair in re.split(b"[&;]", query) if pair)
        return MultiDict(
            [(unquote_to_bytes(name).decode(), unquote_to_bytes(value).decode()) for name, _, value in pairs]
        )

    @property
    def settings(self) -> Settings:
        """The ini's ``pyrimage.*`` keys."""
        settings: Settings = self.registry["pyrimage.settings"]
        return settings

    @property
    def stores(self) -> Stores:
        """The stores by name."""
        stores: Stores = self.registry["pyrimage.stores"]
        return stores

    @property
    def claims(self) -> LiveClaims:
        """The claims of this process's uploads."""
        claims: LiveClaims = self.registry["pyrimage.claims"]
        return claims

    @reify
    def service_url(self) -> str:
        """The URL of ``/``, without its slash: the setting's, or what the client called us."""
        if self.settings.public_endpoint is not None:
            return self.settings.public_endpoint
        if not re.fullmatch(r"([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(:[0-9]*)?", self.host):
            raise Invalid("Host is not a host name.")
        return f"{self.scheme}://{self.host}{quote(self.script_name)}"
