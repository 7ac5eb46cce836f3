"""Who is known to the Keystone of the tests, all in the domain ``default``."""

from typing import NamedTuple

from keystoneauth1.identity import v3
from keystoneauth1.session import Session


class User(NamedTuple):
    """Somebody with one role in one project."""

    name: str
    password: str
    project: str
    role: str


ADMIN = User("admin", "adminpw", "admin", "admin")  # of the whole cloud

BOSS = User("boss", "pw", "tenant-a", "admin")
ALICE = User("alice", "pw", "tenant-a", "member")
CAROL = User("carol", "pw", "tenant-a", "reader")
BOB = User("bob", "pw", "tenant-b", "member")

PYRIMAGE = User("pyrimage", "servicepw", "service", "service")
SWIFT = User("swift", "servicepw", "service", "service")

USERS = (BOSS, ALICE, CAROL, BOB, PYRIMAGE, SWIFT)  # beside the administrator, whom Keystone makes itself

# In the prepared catalogue, in place of the ports that a run gives them.
KEYSTONE_HOST, SWIFT_HOST = "keystone.invalid", "swift.invalid"


def log_in(url: str, user: User) -> Session:
    """Return a session of a user, for the user's project; it asks for a token when it needs one."""
    password = v3.Password(
        url,
        username=user.name,
        password=user.password,
        user_domain_id="default",
        project_name=user.project,
        project_domain_id="default",
    )
    return Session(password)
