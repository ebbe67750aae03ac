"""Runs alembic as servicekit.migration says, a transaction for each revision."""

from alembic import context

context.configure(**context.config.attributes["configure"], transaction_per_migration=True)
with context.begin_transaction():
    context.run_migrations()
