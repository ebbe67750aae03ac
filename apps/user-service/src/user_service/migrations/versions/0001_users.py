"""Table of users."""

from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Create the table, with constraints for the API's promises."""
    op.execute("""
        CREATE TABLE users (
            id    bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
            name  text NOT NULL CHECK (length(name) BETWEEN 1 AND 200),
            email text NOT NULL CONSTRAINT users_email_key UNIQUE CHECK (length(email) <= 254),
            age   integer NOT NULL CHECK (age BETWEEN 0 AND 150)
        )
    """)
