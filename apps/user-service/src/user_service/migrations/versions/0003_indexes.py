"""Indexes for filters and sorts, built without blocking writes to the table."""

from alembic import op

revision = "0003"
down_revision = "0002"

INDEXES = {
    "users_email_lower": "UNIQUE INDEX {} ON users (lower(email))",
    "users_email_order": "INDEX {} ON users (lower(email), id)",
    "users_name_prefix": "INDEX {} ON users (lower(name) text_pattern_ops)",
    "users_name_order": "INDEX {} ON users (name, id)",
    "users_created_at_order": "INDEX {} ON users (created_at, id)",
}


def upgrade() -> None:
    """Build the indexes; an invalid one of an earlier attempt is replaced."""
    with op.get_context().autocommit_block():
        for name, index in INDEXES.items():
            op.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {name}")
            op.execute("CREATE " + index.format(f"CONCURRENTLY {name}"))
