"""What the catalogue of images can do, wherever its rows are."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Protocol

from ..records import Blob, Claim, Image, Location
from ..schemas.listing import ListQuery
from ..security import Identity


class Images(Protocol):
    """The images, within one transaction."""

    def find(self, image_id: str, viewer: Identity) -> Image | None:
        """Return an image that ``viewer`` may see (an administrator also deleted ones), else None."""

    def page(self, query: ListQuery, viewer: Identity, *, detailed: bool) -> list[Image]:
        """Return images that ``viewer``'s list shows, newest first; without properties and location unless detailed.

        Raises Invalid for a marker the viewer could not have seen.
        """

    def add(self, image: Image, blob: Blob | None) -> None:
        """Store a new image, and end the claim of its blob. Raises ImageExists, UploadEnded."""

    def change(self, old: Image, new: Image, blob: Blob | None) -> None:
        """Store what differs between ``old``, as found, and ``new``; end the claim of the blob.

        Raises Conflict if the image's status is no longer what it was, UploadEnded.
        """

    def remove(self, image: Image) -> Sequence[Location]:
        """Mark an image deleted; return the owned locations that became garbage. Raises NotFound."""


class Claims(Protocol):
    """Uploads under way and bytes to remove; each call is a short transaction of its own."""

    def begin(self, claim: Claim, *, is_new: bool) -> None:
        """Record a claim with a fresh lease.

        Raises ImageExists or Conflict if the image cannot take data, UploadInProgress if it is claimed already.
        """

    def renew(self, keys: Sequence[str]) -> None:
        """Renew the leases of these live claims."""

    def end(self, key: str, image_id: str, reason: str | None) -> None:
        """Forget a claim whose upload failed, and note the reason on the image if that is queued."""

    def expired(self, grace: timedelta, image_id: str | None = None) -> Sequence[Claim]:
        """Return claims whose lease ended more than ``grace`` ago, of one image or of all."""

    def seize(self, claim: Claim, grace: timedelta) -> bool:
        """Take an expired claim away from its upload; False if that renewed or ended it meanwhile."""

    def is_located(self, claim: Claim) -> bool:
        """Say whether an image's location names the claim's key: then its COMMIT, in doubt, had worked."""

    def garbage(self) -> Sequence[Location]:
        """Return the locations whose bytes are to be removed."""

    def forget_garbage(self, location: Location) -> None:
        """Forget a location whose bytes are gone."""
