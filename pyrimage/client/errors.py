"""What can go wrong for a client.

::

    ClientError
        Refused                   the server answered with an error
            MultipleChoices       300
            Invalid               400
            NotAuthenticated      401
            Forbidden             403
            NotFound              404
            Conflict              409
            PreconditionFailed    412
            LimitExceeded         413
            TooManyRequests       429
            ServerError           5xx
                Unavailable       502, 503, 504
                StoreFull         507
        Unreachable
            ConnectionFailed      nobody answers at the URL: nothing was sent
                NotTrusted        the server's certificate is not trusted
            ConnectionLost        no answer came, or not all of it: a change may have been made
        HashMismatch              the bytes are not those that they should be
        BadAnswer                 an answer that makes no sense: not an image service, or a proxy that broke it
        ConfigurationError        environment or ``clouds.yaml`` do not say where the service is, or who asks

Files that are there already are Python's FileExistsError, and what is wrong with an argument is a ValueError.
"""


class ClientError(Exception):
    """Everything that a client raises itself."""


class Refused(ClientError):
    """The server answered with an error.

    message: the server's own words, on one line. status: of the answer. request_id: finds the request in the server's
    log; None if the answer had none. retry_after: seconds, if the server said so.
    """

    def __init__(self, message: str, status: int, request_id: str | None = None, retry_after: float | None = None):
        super().__init__(message, status, request_id)
        self.message, self.status, self.request_id, self.retry_after = message, status, request_id, retry_after

    def __str__(self) -> str:
        request = f", request {self.request_id}" if self.request_id else ""
        return f"{self.message} ({self.status}{request})"


class MultipleChoices(Refused):
    """300: the path has no version, and this server wants one. For a Glance, end the URL with ``/v1``."""


class Invalid(Refused):
    """400: something in the request is wrong."""


class NotAuthenticated(Refused):
    """401: no credentials, or not the right ones."""


class Forbidden(Refused):
    """403: it is known who asks, and that is not permitted."""


class NotFound(Refused):
    """404: not there, or not visible to who asks; or an image without data to download."""


class Conflict(Refused):
    """409: the id is taken, the image is active already, or another upload to it is running."""


class PreconditionFailed(Refused):
    """412: a condition does not hold."""


class LimitExceeded(Refused):
    """413: more than a cap or a quota allows."""


class TooManyRequests(Refused):
    """429: come again later."""


class ServerError(Refused):
    """5xx: the server's fault."""


class Unavailable(ServerError):
    """502, 503, 504: a part of the service is away for a while."""


class StoreFull(ServerError):
    """507: there is no room for the bytes."""


class Unreachable(ClientError):
    """The server gave no answer."""


class ConnectionFailed(Unreachable):
    """Nobody answers at the URL. Nothing was sent."""


class NotTrusted(ConnectionFailed):
    """The certificate is of nobody who is trusted, or for another host, or has expired. Nothing was sent."""


class ConnectionLost(Unreachable):
    """No answer came, or not all of it. Whether a change was made is unknown."""


class HashMismatch(ClientError):
    """The bytes are not those that they should be. image_id: of the image, None if there is none."""

    def __init__(self, message: str, image_id: str | None = None) -> None:
        super().__init__(message)
        self.image_id = image_id


class BadAnswer(ClientError):
    """The answer makes no sense. Probably the URL is not that of an image service."""


class ConfigurationError(ClientError):
    """Environment or ``clouds.yaml`` do not say where the service is, or who asks."""


_BY_STATUS: dict[int, type[Refused]] = {
    300: MultipleChoices,
    400: Invalid,
    401: NotAuthenticated,
    403: Forbidden,
    404: NotFound,
    409: Conflict,
    412: PreconditionFailed,
    413: LimitExceeded,
    429: TooManyRequests,
    502: Unavailable,
    503: Unavailable,
    504: Unavailable,
    507: StoreFull,
}


def error_class(status: int) -> type[Refused]:
    """Return the class for a status."""
    return _BY_STATUS.get(status, ServerError if status >= 500 else Refused)
