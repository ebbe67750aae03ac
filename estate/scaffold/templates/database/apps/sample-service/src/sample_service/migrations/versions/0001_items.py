"""Items."""

from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Create the table; what the API promises, the database holds to."""
    op.execute("""
        CREATE TABLE sample_service_items (
            id   bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
            name text NOT NULL CHECK (length(name) BETWEEN 1 AND 200)
        )
    """)
