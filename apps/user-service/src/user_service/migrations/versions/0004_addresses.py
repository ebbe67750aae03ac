"""Comparison of addresses that folds only A to Z: other letters are distinct (RFC 6531), whatever their lower case in a locale.

The previous release keeps working: its filter and order by `lower(email)` still have users_email_order, and no insert of it names an index.
No row that it has stored, or stores, violates the new index: addresses that are equal when A to Z are folded are equal by `lower`.
"""

from alembic import op

revision = "0004"
down_revision = "0003"

INDEXES = {
    "users_email_folded": 'UNIQUE INDEX {} ON users (lower(email COLLATE "C"))',
    "users_email_folded_order": 'INDEX {} ON users (lower(email COLLATE "C"), id)',
}


def upgrade() -> None:
    """Build the indexes, replacing an invalid one of an earlier attempt, and only then drop the one that treats more addresses as equal."""
    with op.get_context().autocommit_block():
        for name, index in INDEXES.items():
            op.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {name}")
            op.execute("CREATE " + index.format(f"CONCURRENTLY {name}"))
        op.execute("DROP INDEX CONCURRENTLY IF EXISTS users_email_lower")
