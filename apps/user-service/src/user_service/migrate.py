"""python -m user_service.migrate: migrate the database's schema to this version, once."""

from servicekit import migration

from user_service.settings import UserSettings


def main() -> None:
    """Migrate the schema, or exit with code 1 and the reason."""
    migration.run(UserSettings, "user_service", takes_over="alembic_version")


if __name__ == "__main__":
    main()
