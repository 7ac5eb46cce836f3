"""The commands, one module each, and what they share."""

import os
import sys
import warnings

OK, FAILED, INTERRUPTED = 0, 1, 130  # exit statuses

# Pyramid looks up assets with pkg_resources, which says at every start that it is old: no operator can change that.
warnings.filterwarnings("ignore", "pkg_resources is deprecated as an API", UserWarning)


def replace_closed_streams() -> None:
    """Let standard streams that our caller has closed lead nowhere: sockets would get their numbers."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(os.open(os.devnull, os.O_RDWR), mode, encoding="utf-8"))
