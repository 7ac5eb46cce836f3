"""Images by the hundred thousand, made by the database itself."""

from sqlalchemy import Engine, text

OWNERS = 1000
TENANT = "tenant-5"  # one of the owners

# What the two databases spell differently. Ids are in no order, as those that the service makes.
SPELLINGS = {
    "sqlite": {
        "id": "lower(hex(randomblob(16)))",
        "moment": "datetime('2011-09-22', '+' || n || ' seconds') || '.000000'",
    },
    "postgresql": {
        "id": "md5(CAST(n AS text))",
        "moment": "timestamp '2011-09-22' + n * interval '1 second'",
    },
}

# Three of five images are public, the oldest ones: what a page begins behind may be far from them. Names occur twice.
STATEMENTS = (
    "WITH RECURSIVE numbers (n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM numbers WHERE n + 1 < {images}) "
    "INSERT INTO images (id, name, status, size, disk_format, container_format, is_public, protected, owner, "
    "min_disk, min_ram, created_at, updated_at, deleted) "
    "SELECT {id}, 'image ' || (n * 7919 % 100003), 'active', n, 'qcow2', 'bare', n < {images} * 6 / 10, 1 = 0, "
    "'tenant-' || (n / 5 % {owners}), 0, 0, {moment}, {moment}, n % 50 = 49 FROM numbers",
    "INSERT INTO image_locations (image_id, store, key, owned, state) "
    "SELECT id, 'file', id, 1 = 1, 'active' FROM images",
    "INSERT INTO image_properties (image_id, key, value) SELECT id, 'os', 'linux' FROM images WHERE size % 10 < 2",
    "INSERT INTO image_members (image_id, member, can_share) "
    "SELECT id, 'tenant-' || ((size + 50000) / 100 % {owners}), 1 = 0 FROM images WHERE size % 100 = 4",
)


def fill(engine: Engine, images: int) -> None:
    """Write so many images of OWNERS owners, each with a location; some have a property, some are shared."""
    with engine.begin() as connection:
        for statement in STATEMENTS:
            spelled = statement.format(**SPELLINGS[engine.dialect.name], images=images, owners=OWNERS)
            connection.execute(text(spelled))


def analyse(engine: Engine) -> None:
    """Let the database count what it has: a server does so by itself, after a while."""
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("ANALYZE"))
