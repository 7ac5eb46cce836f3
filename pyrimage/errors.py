"""Domain exceptions. They know no HTTP: ``web/errors.py`` maps each to a status in one table.

::

    PyrimageError
    ├── ConfigurationError          an ini value that cannot work; raised at start only
    ├── Invalid                     what the client sent cannot be accepted
    │   └── DataMismatch            the bytes are not those that were announced
    ├── UnsupportedEncoding         the body is not sent as it is
    ├── ClientLeft                  before all of its request had come
    ├── ClientTooSlow               the request was given up
    ├── Unauthenticated             nobody knows who asks
    ├── TooManyAttempts             to log in, with wrong credentials
    ├── Forbidden                   understood, and not for this caller
    │   └── RightLost               not any more, for what allowed it went away meanwhile
    ├── LimitExceeded               more than a cap or a quota of the settings allows
    ├── PreconditionFailed          a condition that the request named does not hold
    ├── RangeNotSatisfiable         of the bytes that were asked for, none is there
    ├── NotFound                    not there, or gone between two steps
    ├── Conflict                    the image's state does not allow it
    │   ├── ImageExists             the id is taken, perhaps by a deleted image
    │   ├── UploadInProgress        somebody else's claim on the image
    │   └── UploadEnded             our claim was ended by another hand
    ├── StoreError
    │   ├── StoreFull
    │   ├── StoreUnavailable        denied, read-only or unreachable
    │   │   └── StoreMissing        what lies in the store's place is not the store
    │   ├── BlobDamaged             missing bytes, or not as many as the row says
    │   └── OriginFailed            somebody else's server, where registered bytes lie
    │       └── OriginTooSlow
    ├── ExportUnusable              the directory of an export cannot be written, or is not whole
    ├── IdentityServiceAway         nobody can say whose a token is
    └── DatabaseError               what became of a COMMIT is unknown
        ├── DatabaseRefused         the database said no: nothing was committed
        │   ├── DatabaseBusy
        │   │   └── DatabaseConflict    another transaction came first
        │   └── DatabaseFull
        └── DatabaseAway            no answer
"""

from collections.abc import Sequence


class PyrimageError(Exception):
    """Anything the service itself has to say; ``str()`` is fit for the client."""


class ConfigurationError(PyrimageError):
    """A setting is missing, unknown or cannot work; the text names it."""


class Invalid(PyrimageError):
    """A request cannot be accepted.

    problems: one sentence each, naming the header or parameter and what would be accepted.
    """

    def __init__(self, *problems: str) -> None:
        super().__init__(" ".join(problems))
        self.problems: Sequence[str] = problems


class DataMismatch(Invalid):
    """The bytes that came are not those that were announced."""


class UnsupportedEncoding(PyrimageError):
    """The body is compressed, or encoded in another way that nothing here undoes."""


class ClientLeft(PyrimageError):
    """The connection ended before the request did."""


class ClientTooSlow(PyrimageError):
    """The client took longer over its request than the server waits."""


class Unauthenticated(PyrimageError):
    """The caller did not prove who it is. challenge: what would be a proof, for ``WWW-Authenticate``."""

    def __init__(self, message: str, challenge: str) -> None:
        super().__init__(message)
        self.challenge = challenge


class TooManyAttempts(PyrimageError):
    """The caller has to wait before its credentials are looked at. seconds: how long."""

    def __init__(self, message: str, seconds: int) -> None:
        super().__init__(message)
        self.seconds = seconds


class IdentityServiceAway(PyrimageError):
    """The service that knows whose a token is gives no answer, or none that makes sense."""


class Forbidden(PyrimageError):
    """The caller may not do this."""


class RightLost(Forbidden):
    """The caller might have done this, but lost the right to before it was done."""


class LimitExceeded(PyrimageError):
    """More than a cap or a quota allows; the text names its setting."""


class PreconditionFailed(PyrimageError):
    """What the request was to be done for, or not to be done to, is not what is there."""


class RangeNotSatisfiable(PyrimageError):
    """The bytes that were asked for lie behind the end of the image, which has ``size``."""

    def __init__(self, message: str, size: int) -> None:
        super().__init__(message)
        self.size = size


class NotFound(PyrimageError):
    """What was asked for is not there, or went away meanwhile."""


class Conflict(PyrimageError):
    """The image is not in a state that allows this."""


class ImageExists(Conflict):
    """The id is taken; ids of deleted images stay taken."""


class UploadInProgress(Conflict):
    """Another upload holds the claim on this image."""


class UploadEnded(Conflict):
    """The claim or the image went away while the bytes came."""


class StoreError(PyrimageError):
    """A store could not do its work."""


class StoreFull(StoreError):
    """No room for the bytes."""


class StoreUnavailable(StoreError):
    """The store is not reachable, or does not let us in."""


class StoreMissing(StoreUnavailable):
    """What lies in the store's place is not the store: a disk that is not mounted, or another one.

    advice: what is wrong where, and what to do, for whoever runs the server.
    """

    def __init__(self, message: str, advice: str) -> None:
        super().__init__(message)
        self.advice = advice


class BlobDamaged(StoreError):
    """The stored bytes are missing, or not as many as the row says."""


class OriginFailed(StoreError):
    """Somebody else's server does not give the bytes that were registered there; the text names its host."""


class OriginTooSlow(OriginFailed):
    """Somebody else's server does not answer in time."""


class ExportUnusable(PyrimageError):
    """The directory of an export cannot be written or read, or it is not whole; the text names the file."""


class DatabaseError(PyrimageError):
    """The database could not do its work; if that was a COMMIT, it may have happened all the same."""


class DatabaseRefused(DatabaseError):
    """The database answered with an error; what was asked is certain not to have happened."""


class DatabaseBusy(DatabaseRefused):
    """Locked, deadlocked or serialised away for longer than the driver waits."""


class DatabaseConflict(DatabaseBusy):
    """Another transaction changed the same rows first; begun again, this one sees what that did."""


class DatabaseFull(DatabaseRefused):
    """No room for the rows."""


class DatabaseAway(DatabaseError):
    """The database cannot be reached, or its answer was lost."""
