"""Alembic environment: run the revisions as servicekit.migration configures them, in a transaction for each."""

from alembic import context

context.configure(**context.config.attributes["configure"], transaction_per_migration=True)
with context.begin_transaction():
    context.run_migrations()
