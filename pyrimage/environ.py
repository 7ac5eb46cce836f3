"""The keys of a request's WSGI environ that are ours."""

REQUEST_ID = "pyrimage.request_id"
IMAGE_ID = "pyrimage.image_id"  # of the image that the request is about

# What the authentication middleware leaves: who is asking, or the error that refuses the request.
IDENTITY = "pyrimage.identity"
REFUSAL = "pyrimage.refusal"
IS_SIGNED = "pyrimage.is_signed"  # there where the request bears a registry's signature, and a right one
# And for who did not log in: the error, for pages that need an identity; or what to log in with, for who is nobody.
UNAUTHENTICATED = "pyrimage.unauthenticated"
CHALLENGE = "pyrimage.challenge"

# What our server leaves, for waitress hides both: that there were forwarding headers, and that a body is chunked.
FORWARDED = "pyrimage.forwarded"
CHUNKED = "pyrimage.chunked"
