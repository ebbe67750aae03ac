"""user-service: users, stored in Postgres."""
