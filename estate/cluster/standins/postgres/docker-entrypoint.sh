#!/bin/sh
# Starts Postgres; on an empty volume, makes the database first, as the upstream image's entrypoint does for
# POSTGRES_USER, POSTGRES_PASSWORD or POSTGRES_PASSWORD_FILE, POSTGRES_DB, POSTGRES_INITDB_ARGS, PGDATA and /docker-entrypoint-initdb.d.
set -eu

[ "${1#-}" = "$1" ] || set -- postgres "$@"
[ "$1" = postgres ] || exec "$@"

user=${POSTGRES_USER:-postgres}
database=${POSTGRES_DB:-$user}
# The database is created next to its final place and renamed into it, so one that is there is always whole.
unfinished=$PGDATA.unfinished

ask() { psql --no-psqlrc --quiet -v ON_ERROR_STOP=1 --host /var/run/postgresql --username "$user" --no-password "$@"; }

if [ ! -s "$PGDATA/PG_VERSION" ]; then
  if [ -n "${POSTGRES_PASSWORD_FILE:-}" ]; then
    POSTGRES_PASSWORD=$(cat "$POSTGRES_PASSWORD_FILE")
  fi
  if [ -z "${POSTGRES_PASSWORD:-}" ]; then
    echo "error: the database has no password: set POSTGRES_PASSWORD_FILE or POSTGRES_PASSWORD" >&2
    exit 1
  fi
  rm -rf "$unfinished"
  umask 0077
  password_file=$(mktemp /tmp/password.XXXXXX)
  printf '%s\n' "$POSTGRES_PASSWORD" >"$password_file"
  # shellcheck disable=SC2086
  initdb --pgdata "$unfinished" --username "$user" --pwfile "$password_file" --encoding UTF8 \
    --auth-local trust --auth-host scram-sha-256 ${POSTGRES_INITDB_ARGS:-}
  rm "$password_file"
  echo "host all all all scram-sha-256" >>"$unfinished/pg_hba.conf"
  echo "listen_addresses = '*'" >>"$unfinished/postgresql.conf"
  pg_ctl --pgdata "$unfinished" --wait --options "-c listen_addresses='' -c unix_socket_directories=/var/run/postgresql" start
  [ "$database" = postgres ] || ask --dbname postgres --set name="$database" <<'SQL'
CREATE DATABASE :"name";
SQL
  for file in /docker-entrypoint-initdb.d/*; do
    case $file in
      *.sh) . "$file" ;;
      *.sql) ask --dbname "$database" --file "$file" ;;
    esac
  done
  pg_ctl --pgdata "$unfinished" --wait --mode fast stop
  sync
  if [ -d "$PGDATA" ]; then rmdir "$PGDATA"; fi
  mv "$unfinished" "$PGDATA"
fi
unset POSTGRES_PASSWORD POSTGRES_PASSWORD_FILE
exec "$@"
