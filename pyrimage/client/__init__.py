"""A client of image services: of this one, and of Glance by version 1 of its API.

It needs urllib3 and Python, and loads nothing of the server.
"""

from .auth import ApiToken, Auth, Basic, KeystoneToken
from .client import Client
from .downloads import ImageData
from .errors import (
    BadAnswer,
    ClientError,
    ConfigurationError,
    Conflict,
    ConnectionFailed,
    ConnectionLost,
    Forbidden,
    HashMismatch,
    Invalid,
    LimitExceeded,
    MultipleChoices,
    NotAuthenticated,
    NotFound,
    NotTrusted,
    PreconditionFailed,
    Refused,
    ServerError,
    StoreFull,
    TooManyRequests,
    Unavailable,
    Unreachable,
)
from .records import Image, ImageSummary, Member, SharedImage

__all__ = [
    "ApiToken",
    "Auth",
    "BadAnswer",
    "Basic",
    "Client",
    "ClientError",
    "ConfigurationError",
    "Conflict",
    "ConnectionFailed",
    "ConnectionLost",
    "Forbidden",
    "HashMismatch",
    "Image",
    "ImageData",
    "ImageSummary",
    "Invalid",
    "KeystoneToken",
    "LimitExceeded",
    "Member",
    "MultipleChoices",
    "NotAuthenticated",
    "NotFound",
    "NotTrusted",
    "PreconditionFailed",
    "Refused",
    "ServerError",
    "SharedImage",
    "StoreFull",
    "TooManyRequests",
    "Unavailable",
    "Unreachable",
]
