"""The database's tables, and the steps that bring an older one to the newest version."""

from __future__ import annotations

from collections.abc import Callable

import sqlalchemy as sa

VERSION = 1
"""Version of the tables that this package writes."""

metadata = sa.MetaData()
BIG = sa.BigInteger().with_variant(sa.Integer, "sqlite")

about = sa.Table(
    "sise_about",
    metadata,
    sa.Column("name", sa.String(40), primary_key=True),
    sa.Column("value", sa.Text, nullable=False),
)
"""Version of the tables, where the files are."""

lines = sa.Table(
    "sise_lines",
    metadata,
    sa.Column("line", sa.String(200), primary_key=True),
    sa.Column("number", BIG, nullable=False),
    sa.Column("head", sa.String(64), nullable=False),
)
"""Each line's newest link: its number and digest."""

entries = sa.Table(
    "sise_entries",
    metadata,
    sa.Column("line", sa.String(200), primary_key=True),
    sa.Column("number", BIG, primary_key=True),
    sa.Column("kind", sa.String(10), nullable=False),
    sa.Column("content_sha256", sa.String(64), nullable=False),
    sa.Column("link", sa.String(64), nullable=False, unique=True),
    sa.Column("written", sa.Float, nullable=False),
    sa.Column("key_sha256", sa.String(64)),
    sa.Column("pruned_by", BIG),
    sa.UniqueConstraint("line", "key_sha256", name="sise_entries_key"),
)
"""The chains: one link for each record ("part") and each pruning ("pruned"); what is pruned stays here as a stub,
so that no key is taken twice."""

parts = sa.Table(
    "sise_parts",
    metadata,
    sa.Column("line", sa.String(200), primary_key=True),
    sa.Column("number", BIG, primary_key=True),
    sa.Column("key", sa.String(300), nullable=False),
    sa.Column("part_id", sa.String(200), nullable=False),
    sa.Column("submitted", sa.Float, nullable=False),
    sa.Column("decision", sa.String(20), nullable=False),
    sa.Column("label", sa.Text, nullable=False),
    sa.Column("confidence", sa.Float, nullable=False),
    sa.Column("explained", sa.String(20), nullable=False),
    sa.Column("trust", sa.String(10), nullable=False),
    sa.Column("regions", sa.Integer, nullable=False),
    sa.Column("record", sa.LargeBinary, nullable=False),
    sa.Index("sise_parts_submitted", "submitted"),
    sa.Index("sise_parts_part_id", "part_id"),
    sa.Index("sise_parts_key", "line", "key"),
)
"""The records as JSON, and the columns that lists are made from."""

checkpoints = sa.Table(
    "sise_checkpoints",
    metadata,
    sa.Column("line", sa.String(200), primary_key=True),
    sa.Column("number", BIG, primary_key=True),
    sa.Column("content", sa.LargeBinary, nullable=False),
)
"""What each pruning removed, and why, as JSON."""

files = sa.Table(
    "sise_files",
    metadata,
    sa.Column("line", sa.String(200), primary_key=True),
    sa.Column("number", BIG, primary_key=True),
    sa.Column("role", sa.String(300), primary_key=True),
    sa.Column("name", sa.String(80), nullable=False),
    sa.Column("size", BIG, nullable=False),
    sa.Index("sise_files_name", "name"),
)
"""Which records hold which files; a file that no record holds may go."""

outbox = sa.Table(
    "sise_outbox",
    metadata,
    sa.Column("id", BIG, primary_key=True, autoincrement=True),
    sa.Column("sink", sa.String(100), nullable=False),
    sa.Column("line", sa.String(200), nullable=False),
    sa.Column("number", BIG, nullable=False),
    sa.Column("part_id", sa.String(200), nullable=False),
    sa.Column("kind", sa.String(20), nullable=False),
    sa.Column("message", sa.LargeBinary, nullable=False),
    sa.Column("created", sa.Float, nullable=False),
    sa.Column("attempts", sa.Integer, nullable=False, default=0),
    sa.Column("not_before", sa.Float, nullable=False, default=0.0),
    sa.Column("error", sa.Text, nullable=False, default=""),
    sa.Index("sise_outbox_sink", "sink", "id"),
    sqlite_autoincrement=True,
)
"""Messages that sinks have still to deliver, in order of `id`; a delivered one is removed."""

# What brings tables of the version before to each version; version 1 is made as a whole.
MIGRATIONS: dict[int, Callable[[sa.Connection], None]] = {}
