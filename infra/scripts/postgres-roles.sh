# Brings the database's roles to what roles.sql says; the same again changes nothing.
. ./connect.sh

# Once the one superuser, who owned everything, was called myuser. A role cannot rename itself.
if ! ask --command='SELECT' >/dev/null 2>&1 && ask --username=myuser --command='SELECT' >/dev/null 2>&1; then
  echo "taking over the database of the superuser myuser"
  ask --username=myuser <<'SQL'
DROP ROLE IF EXISTS takeover;
SELECT format('CREATE ROLE takeover SUPERUSER LOGIN PASSWORD %L', rolpassword) FROM pg_authid WHERE rolname = 'myuser' \gexec
SQL
  ask --username=takeover --command='ALTER ROLE myuser RENAME TO postgres'
fi
ask --file=roles.sql
echo "the roles are as they should be"
