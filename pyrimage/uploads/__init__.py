"""An upload's way from its claim to the commit, and a deletion's way back.

::

    claim (own transaction) -> bytes into a writer -> finish -> SQL -> COMMIT
    row deleted, location garbage -> COMMIT -> bytes removed -> garbage row removed (own transaction)

So a row never names bytes that are not there. Bytes without a row are a leak, and ``scrub`` ends it. Nothing of a store
runs while the request's transaction holds a lock of the database.
"""
