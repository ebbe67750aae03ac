# Puts a dump from /backups in the place of all that the owner has, or, where anything fails, leaves everything as it was.
. ./connect.sh
scripts=$PWD
cd /backups
exec 9>.lock
flock 9

backups() { find . -name '*.dump' -printf '%f\n' | sort; }

name=${FROM:-$(backups | tail --lines=1)}
if [ ! -f "$name" ]; then
  echo "error: there is no backup ${FROM:-at all}; there are: $(backups | tr '\n' ' ')" >&2
  exit 1
fi
if ! sha256sum --check --status "$name.sha256"; then
  echo "error: $name is not what was written: its checksum is another; choose another backup: $(backups | tr '\n' ' ')" >&2
  exit 1
fi
# What an extension says of itself comes with it, and only who owns it could say it again.
pg_restore --list "$name" | grep --invert-match ' COMMENT - EXTENSION ' >/tmp/contents
# The rights of a service that this stack does not have: there are no roles that could be given them.
roles=$(ask --tuples-only --no-align --command="SELECT rolname FROM pg_roles WHERE rolname LIKE 'svc\_%' AND NOT rolcanlogin")
for schema in $(sed --regexp-extended --quiet 's/.* SCHEMA - (svc_[a-z0-9_]+) .*/\1/p' /tmp/contents); do
  if ! grep --quiet --line-regexp --fixed-strings "$schema" <<<"$roles"; then
    sed --regexp-extended --in-place "/ (ACL|DEFAULT ACL) ($schema|- SCHEMA $schema) /d" /tmp/contents
  fi
done
# A stream that breaks off has no COMMIT.
{
  echo 'BEGIN;'
  echo 'DROP OWNED BY CURRENT_USER CASCADE;'
  pg_restore --no-owner --exit-on-error --use-list=/tmp/contents --file=- "$name"
  # A dump from before a service has no schema for what its migration makes.
  for role in $roles; do
    printf '\\set role %s\n\\i %s/schema.sql\n' "$role" "$scripts"
  done
  echo 'COMMIT;'
} | ask --output=/dev/null
PGOPTIONS='--client-min-messages=error' ask --command=ANALYZE # the catalogues are not the owner's
echo "$name: $(stat --format=%s "$name") bytes restored in $SECONDS s"
ask --tuples-only --no-align --field-separator=': ' <<'SQL'
SELECT format('SELECT %L, count(*) || '' rows'' FROM %s', '  ' || relname, oid::regclass)
FROM pg_class WHERE (relnamespace = 'public'::regnamespace OR relnamespace::regnamespace::text LIKE 'svc\_%') AND relkind = 'r'
ORDER BY relname \gexec
SQL
