"""user-service: users, over Postgres."""
