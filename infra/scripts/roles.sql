-- Who may do what in the database; run by the superuser, any number of times.
\ir verifiers.sql
SET client_min_messages = warning;
BEGIN;
DROP ROLE IF EXISTS takeover;
SELECT format('CREATE ROLE %I', name)
FROM unnest(ARRAY['myuser', 'myuser_owner', 'myuser_a', 'myuser_b', 'backup']) AS name
WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = name) \gexec

-- myuser is what its logins have in common.
ALTER ROLE myuser NOLOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS;
ALTER ROLE myuser_owner LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS PASSWORD :'myuser_owner';
ALTER ROLE myuser_a LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS PASSWORD :'myuser_a';
ALTER ROLE myuser_b LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS PASSWORD :'myuser_b';
ALTER ROLE backup LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS PASSWORD :'backup';
GRANT myuser TO myuser_a, myuser_b;
GRANT pg_read_all_data TO backup;

-- Whoever owns the database owns its schema `public`.
ALTER DATABASE myapp OWNER TO myuser_owner;
REVOKE ALL ON DATABASE myapp FROM PUBLIC;
GRANT CONNECT ON DATABASE myapp TO myuser, backup;
REVOKE CREATE ON SCHEMA public FROM PUBLIC;
GRANT USAGE ON SCHEMA public TO myuser;

-- What a superuser once made. A sequence of a column goes with its table.
SELECT format('ALTER TABLE %s OWNER TO myuser_owner', oid::regclass)
FROM pg_class
WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p', 'v', 'm', 'S')
  AND relowner <> 'myuser_owner'::regrole
  AND NOT EXISTS (SELECT FROM pg_depend WHERE classid = 'pg_class'::regclass AND objid = pg_class.oid AND deptype IN ('a', 'i'))
\gexec

GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO myuser;
GRANT USAGE, SELECT ON ALL SEQUENCES IN SCHEMA public TO myuser;
ALTER DEFAULT PRIVILEGES FOR ROLE myuser_owner GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO myuser;
ALTER DEFAULT PRIVILEGES FOR ROLE myuser_owner GRANT USAGE, SELECT ON SEQUENCES TO myuser;
COMMIT;
