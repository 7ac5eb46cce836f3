"""Logging in with name and password."""

from ..errors import Unauthenticated
from .hashes import is_usable, verify
from .user_files import User, UserFiles

CHALLENGE = 'Basic realm="pyrimage", charset="UTF-8"'


class Passwords:
    """Verifies names and passwords against the files of users."""

    def __init__(self, files: UserFiles) -> None:
        self._files = files

    def check(self, name: str, password: str, address: str) -> User:
        """Return the user of a name and its password. address: that of the client.

        Raises Unauthenticated; TooManyAttempts where too many from this address were wrong of late.
        """
        user, hashed = self._files.find(name), self._files.find_hash(name)
        if user is None or hashed is None or not is_usable(password) or not verify(password, hashed):
            raise Unauthenticated("The name or the password is wrong.", CHALLENGE)
        return user
