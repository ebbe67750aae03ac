"""Operations on a stack: update, rollback, backups, rotations."""
