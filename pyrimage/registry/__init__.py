"""The registry: the catalogue as JSON, for API servers that do not talk to the database themselves.

It asks the same catalogue, under the same rules: who is named by the signed headers (``pyrimage.signatures``) can
do what that caller can do at the API. Beside that, the server that signs is believed what it alone can know: that bytes
arrived (a blob, which must be that of a live claim), and when.

An image's JSON holds all of its record, so that a client can make the record of it again::

    {"image": {"id": "...", "name": "f17", "created_at": "2026-01-31T09:00:00.123456", ...,
               "location": "file:///var/lib/pyrimage/images/blobs/9c/....5be31a7c0e2d449c",
               "location_data": [{"url": "file:///...", "store": "file", "key": "...", "owned": true}]}}

The brief list does not. An error's class stands in ``X-Pyrimage-Error``. Source: docs/v1.md, "Registry API"; ours for
claims.
"""

from pyramid.config import Configurator

from ..web.views import scan_views
from .resources import Root


def includeme(config: Configurator) -> None:
    """Serve this face."""
    config.set_root_factory(Root)
    config.include(f"{__name__}.idempotency")
    scan_views(config, f"{__name__}.views")
