"""The connections of a process that linger."""

from waitress.channel import HTTPChannel

MOST_LINGERING = 64
SCRATCH = memoryview(bytearray(256 * 1024))  # for what is read to be ignored


class Connections:
    """What the listeners of a process share; used in its main loop only.

    lingering: connections that were refused more than they have sent so far, those that began first come first.
    """

    def __init__(self) -> None:
        self.lingering: dict[HTTPChannel, None] = {}

    def closed(self, channel: HTTPChannel) -> None:
        """Forget a connection."""
        self.lingering.pop(channel, None)

    def linger(self, channel: HTTPChannel) -> None:
        """Take a connection among those that linger; the one that has done so for longest may have to go."""
        if len(self.lingering) >= MOST_LINGERING:
            next(iter(self.lingering)).handle_close()
        self.lingering[channel] = None
