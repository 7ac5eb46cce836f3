"""The paste server ``egg:pyrimage#server``: waitress, taught what image traffic needs.

Waitress drops every header whose name has an underscore, hides that a body came chunked or through a proxy, takes a
whole body before it asks the application, sends files through Python, ends by cutting transfers, and answers its own
refusals in a shape of its own. Each module here mends such habits around calls of ``super()``.

What the application finds in its environ: ``pyrimage.chunked`` True for a chunked body (there is no CONTENT_LENGTH
then), ``pyrimage.forwarded`` True if any forwarding header came, also one that waitress removes. What it may leave
there for the access line: ``pyrimage.request_id``, and ``pyrimage.identity``, whose str() says who asked.

A chunked body, and one of more than ``inbuf_overflow`` bytes, is read from the socket while the application reads
``wsgi.input``, which raises built-in errors, so that nobody need import this package: ConnectionError when the client
left (never an end of file), TimeoutError when it is too slow, ValueError for broken chunks, OSError with EFBIG for more
than ``max_request_body_size``. An application that lets one through has it answered here.
"""
