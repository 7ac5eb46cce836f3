"""A whole catalogue, and if wanted its bytes, as files: out of one installation and into another.

::

    DIR/images.jsonl                 a line of JSON for the format, one for each image, and one for the end
    DIR/blobs/<xx>/<sha256>          bytes, named after their digest; xx are its first two digits
    DIR/images.jsonl.partial, DIR/blobs/partial    what an export that was not finished was writing

``docs/export.md`` describes the lines.
"""
