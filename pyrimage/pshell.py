"""What ``pshell production.ini`` gives an administrator."""

from collections.abc import Iterator
from typing import Any

from . import models
from .catalogue.queries import ListQuery
from .catalogue.records import ADMINISTRATOR
from .catalogue.sql.catalogue import SqlCatalogue
from .environ import IDENTITY

HELP = """
pyrimage: dbsession is one transaction; tm.commit() keeps it, leaving the shell drops it. There is none on a server that
asks registries instead of a database.

  image = catalogue.find("<id>", admin)                 one image with its properties, or None
  catalogue.page(everything(name="f17"), admin)
  catalogue.brief_page(everything(sort_key="size", limit=5), admin)          the five largest
  image.owner, image.location                           whose it is, and where its bytes lie
  store = stores[image.location.store]
  store.url(image.location.key)                         the file
  store.open_reader(image.location.key, image.size).read(512)
  dbsession.query(models.ImageRow).filter_by(owner="<project>").count()
"""


def everything(**wanted: Any) -> ListQuery:
    """Make the query of a list that shows every live image; ``wanted`` are fields of ``ListQuery``."""
    return ListQuery(default_scope=False, **wanted)


def setup(env: dict[str, Any]) -> Iterator[None]:
    """Begin a transaction, name what one needs, and abort at the end what was not committed."""
    request = env["request"]
    request.environ[IDENTITY] = ADMINISTRATOR
    request.tm.explicit = False  # after a commit the next statement begins anew
    request.tm.begin()
    env |= {
        "tm": request.tm,
        "catalogue": request.catalogue,
        "stores": request.stores,
        "models": models,
        "admin": ADMINISTRATOR,
        "everything": everything,
    }
    if isinstance(request.catalogue, SqlCatalogue):  # one that asks registries has no session
        env["dbsession"] = request.catalogue.sessions(info={"tm": request.tm})
    print(HELP)  # noqa: T201 - said to whoever opened the shell
    try:
        yield
    finally:
        request.tm.abort()
