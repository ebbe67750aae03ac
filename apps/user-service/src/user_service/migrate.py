"""python -m user_service.migrate: brings the database's schema to what this version wants, once."""

from servicekit import migration

from user_service.settings import UserSettings


def main() -> None:
    """Migrate, or end with exit code 1 and the reason."""
    migration.run(UserSettings, "user_service", takes_over="alembic_version")


if __name__ == "__main__":
    main()
