"""What requests to an S3 service are, and refusals in its words, for ``HttpFaults``."""

import re

from servers.http_faults import Replaced, spell

# What a request is, by its method and path.
CREATE = re.compile(r"POST .*\?uploads$")
PART = re.compile(r"PUT .*partNumber=.*")
SECOND_PART = re.compile(r"PUT .*partNumber=2(&.*)?$")
COMPLETE = re.compile(r"POST .*\?uploadId=.*")
PUT = re.compile(r"PUT [^?]*$")
ABORT = re.compile(r"DELETE .*uploadId=.*")
DELETE = re.compile(r"DELETE [^?]*$")
LIST_UPLOADS = re.compile(r"GET .*\?uploads.*")
GET = re.compile(r"GET [^?]*$")


def refused(status: int, code: str) -> Replaced:
    """Make the answer of a service that will not."""
    xml = f"<Error><Code>{code}</Code><Message>No.</Message></Error>".encode()
    return Replaced(spell(f"{status} {code}", "application/xml", xml))
