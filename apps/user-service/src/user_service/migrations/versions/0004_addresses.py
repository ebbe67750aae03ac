"""Addresses compared by A to Z alone: other letters are others (RFC 6531), whatever a locale takes for their small forms.

The release before goes on: its filter and order by `lower(email)` have users_email_order still, and no insert of it names an index. No
row that it has stored, or stores, can be in the way: what two addresses have in common by A to Z they have in common by `lower`.
"""

from alembic import op

revision = "0004"
down_revision = "0003"

INDEXES = {
    "users_email_folded": 'UNIQUE INDEX {} ON users (lower(email COLLATE "C"))',
    "users_email_folded_order": 'INDEX {} ON users (lower(email COLLATE "C"), id)',
}


def upgrade() -> None:
    """Build the indexes, where an earlier try left an invalid one again, and only then drop the one that takes more addresses for the same."""
    with op.get_context().autocommit_block():
        for name, index in INDEXES.items():
            op.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {name}")
            op.execute("CREATE " + index.format(f"CONCURRENTLY {name}"))
        op.execute("DROP INDEX CONCURRENTLY IF EXISTS users_email_lower")
