"""Versions and times of users, idempotency keys, and the cache's generation.

Only additions with constant defaults: no table is rewritten, and the version that serves meanwhile is not affected.
"""

from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Add the columns, the table and the sequence for conditional requests, idempotent creation and the cache."""
    op.execute("""
        ALTER TABLE users
            ADD COLUMN version    bigint NOT NULL DEFAULT 1,
            ADD COLUMN created_at timestamptz(3) NOT NULL DEFAULT now(),
            ADD COLUMN updated_at timestamptz(3) NOT NULL DEFAULT now()
    """)
    op.execute("""
        CREATE TABLE idempotency_keys (
            subject     text NOT NULL CHECK (length(subject) <= 255),
            key         text NOT NULL CHECK (length(key) BETWEEN 1 AND 255),
            fingerprint bytea NOT NULL,
            answer      jsonb,
            created_at  timestamptz NOT NULL DEFAULT now(),
            PRIMARY KEY (subject, key)
        )
    """)
    op.execute("CREATE INDEX idempotency_keys_created_at ON idempotency_keys (created_at)")
    op.execute("CREATE SEQUENCE cache_generation")
