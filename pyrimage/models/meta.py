"""What all tables share: the naming convention, and text and times that mean the same on every database."""

from datetime import datetime

from sqlalchemy import DateTime, MetaData, String, Text
from sqlalchemy import text as sql
from sqlalchemy.dialects import mysql, postgresql
from sqlalchemy.orm import DeclarativeBase
from sqlalchemy.types import TypeEngine

NAMING_CONVENTION = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s",
    "pk": "pk_%(table_name)s",
}

# For the column that an UPDATE raises where it shall lock the row, and has nothing else to change. An UPDATE to the
# value that is there is no change, and between the nodes of a Galera cluster only changes lock.
ZERO = sql("0")

_MARIADB = {"charset": "utf8mb4", "collation": "utf8mb4_nopad_bin"}


def text(length: int) -> TypeEngine[str]:
    """Return the type of a text of up to ``length`` characters that compares byte by byte."""
    return (
        String(length)
        .with_variant(postgresql.VARCHAR(length, collation="C"), "postgresql")
        .with_variant(mysql.VARCHAR(length, **_MARIADB), "mysql", "mariadb")
    )


def long_text() -> TypeEngine[str]:
    """Return the type of a text that only the size of a request bounds (MariaDB's TEXT ends at 64 KiB)."""
    return (
        Text()
        .with_variant(postgresql.TEXT(collation="C"), "postgresql")
        .with_variant(mysql.MEDIUMTEXT(**_MARIADB), "mysql", "mariadb")
    )


def utc_datetime() -> TypeEngine[datetime]:
    """Return the type of a time in UTC, to the microsecond."""
    return DateTime().with_variant(mysql.DATETIME(fsp=6), "mysql", "mariadb")


class Base(DeclarativeBase):
    """The declarative base."""

    metadata = MetaData(naming_convention=NAMING_CONVENTION)
