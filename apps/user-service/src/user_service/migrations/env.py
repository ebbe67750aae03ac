"""Runs alembic on the connection that user_service.migrate gives it, a transaction for each version."""

from alembic import context

context.configure(connection=context.config.attributes["connection"], transaction_per_migration=True)
with context.begin_transaction():
    context.run_migrations()
