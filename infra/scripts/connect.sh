# Read by every program of the database: the password, `ask`, and a server that accepts connections.
set -euo pipefail
PGPASSWORD=$(cat password)
export PGPASSWORD

ask() { psql --no-psqlrc --quiet --no-password --set=ON_ERROR_STOP=1 "$@"; }

# A pod that has just started is let through by network policies a few seconds later.
until pg_isready --quiet; do
  if [ $SECONDS -gt 120 ]; then
    echo "error: $PGHOST does not accept connections" >&2
    exit 1
  fi
  sleep 0.5
done
