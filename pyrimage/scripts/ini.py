"""Reading an ini for a program that was given it: whatever is wrong with the file is one line that names it."""

import configparser
from codecs import BOM_UTF8
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
        with ini.open("rb") as file:  # configparser passes over a file that it cannot read
            if file.read(len(BOM_UTF8)) == BOM_UTF8:
                raise ConfigurationError(f"{ini} begins with a byte order mark: save it as UTF-8 without.")
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
