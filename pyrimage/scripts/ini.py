"""Reading an ini for a program that was given it: whatever is wrong with the file is one line that names it."""

import configparser
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..errors import ConfigurationError


@contextmanager
def reading(ini: Path) -> Iterator[None]:
    """Raise ConfigurationError for what goes wrong with an ini in the block; it quotes no value: that may be secret."""
    if ini.suffix != ".ini" or set("%#?").intersection(str(ini)):
        raise ConfigurationError(f"{ini}: the path of a configuration ends in .ini, and holds no %, # or ?.")
    try:
        ini.open().close()  # configparser passes over a file that it cannot read
        yield
    except OSError as error:
        raise ConfigurationError(f"{error.filename or ini} cannot be read: {error.strerror}.") from error
    except configparser.InterpolationError as error:
        raise ConfigurationError(
            f"{ini}: {error.option}: a literal % is written %%, and what %(name)s names must be set."
        ) from error
    except configparser.ParsingError as error:
        line = error.lineno if isinstance(error, configparser.MissingSectionHeaderError) else error.errors[0][0]
        raise ConfigurationError(f"{ini}: line {line} is neither a setting nor a section.") from None
    except (configparser.Error, ImportError, LookupError, RecursionError, ValueError) as error:
        raise ConfigurationError(f"{ini}: {error}") from error
