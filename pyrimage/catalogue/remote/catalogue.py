"""The catalogue that a registry serves: one object per process."""

from collections.abc import Sequence

from transaction import TransactionManager

from ...errors import ConfigurationError, DatabaseRefused, NotFound
from ...settings import Settings
from ..queries import ListQuery
from ..records import ADMINISTRATOR, Identity, Image, ImageSummary, Member
from .claims import RemoteClaims
from .records import image_of, query_of, summary_of
from .stores import RemoteActiveImages, RemoteIdentities
from .tokens import RemoteTokens
from .transport import Call, Registries
from .writes import RemoteWrites


class RemoteCatalogue:
    """The catalogue of the registries that the settings name; each question is a request on behalf of who asks.

    claims, tokens, identities, active: as ``Catalogue`` has them.
    """

    def __init__(self, settings: Settings) -> None:
        self._registries = Registries(settings)
        self.claims = RemoteClaims(self._registries)
        self.tokens = RemoteTokens(self._registries)
        self.identities = RemoteIdentities(self._registries)
        self.active = RemoteActiveImages(self, self._registries)

    def find(self, image_id: str, viewer: Identity) -> Image | None:
        """Ask for the image."""
        try:
            answer = self._registries.ask(Call("GET", f"/images/{image_id}", viewer))
        except NotFound:
            return None
        return image_of(answer["image"])

    def page(self, query: ListQuery, viewer: Identity) -> list[Image]:
        """Ask for the page."""
        answer = self._registries.ask(Call("GET", "/images/detail", viewer, query_of(query)))
        return [image_of(each) for each in answer["images"]]

    def brief_page(self, query: ListQuery, viewer: Identity) -> list[ImageSummary]:
        """Ask for the page in brief."""
        answer = self._registries.ask(Call("GET", "/images", viewer, query_of(query)))
        return [summary_of(each) for each in answer["images"]]

    def members_of(self, image_id: str, viewer: Identity) -> Sequence[Member]:
        """Ask for the members."""
        try:
            answer = self._registries.ask(Call("GET", f"/images/{image_id}/members", viewer))
        except NotFound:
            return []
        return [Member(image_id, each["member_id"], each["can_share"]) for each in answer["members"]]

    def find_member(self, image_id: str, member: str, viewer: Identity) -> Member | None:
        """Ask for all members: the Registry API has no way to ask for one."""
        return next((each for each in self.members_of(image_id, viewer) if each.member == member), None)

    def shared_with(self, member: str, viewer: Identity) -> Sequence[Member]:
        """Ask for what is shared with a project."""
        answer = self._registries.ask(Call("GET", f"/shared-images/{member}", viewer))
        return [Member(each["image_id"], member, each["can_share"]) for each in answer["shared_images"]]

    def writes(self, transaction_manager: TransactionManager, caller: Identity) -> RemoteWrites:
        """Return the change of the manager's transaction, which is sent when that votes."""
        return RemoteWrites(self._registries, transaction_manager, caller)

    def check(self, *, upgrade: bool) -> None:
        """See whether a registry answers, and takes our signature. Its schema is its own to change."""
        try:
            self._registries.ask(Call("GET", "/images", ADMINISTRATOR, "limit=0"))
        except DatabaseRefused as error:
            raise ConfigurationError(f"pyrimage.registry_host: {error}") from error

    def close(self) -> None:
        """Close the connections."""
        self._registries.close()
