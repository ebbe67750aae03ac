-- Who may do what in the database; run by a superuser, or by one who may create roles and databases; any number of times.
\ir verifiers.sql
SET client_min_messages = warning;
BEGIN;
DROP ROLE IF EXISTS takeover;
SELECT format('CREATE ROLE %I', name)
FROM unnest(ARRAY['myuser', 'myuser_owner', 'myuser_a', 'myuser_b', 'backup', 'metrics']) AS name
WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = name) \gexec

-- Most of what makes a role mighty only a superuser may so much as mention.
SELECT format('ALTER ROLE %I NO%s', rolname, attribute)
FROM pg_roles, LATERAL (VALUES
  ('SUPERUSER', rolsuper), ('CREATEDB', rolcreatedb), ('CREATEROLE', rolcreaterole),
  ('REPLICATION', rolreplication), ('BYPASSRLS', rolbypassrls)
) AS might(attribute, had)
WHERE had AND (rolname IN ('myuser', 'myuser_owner', 'myuser_a', 'myuser_b', 'backup', 'metrics') OR rolname LIKE 'svc\_%') \gexec

-- myuser is what its logins have in common.
ALTER ROLE myuser NOLOGIN;
ALTER ROLE myuser_owner LOGIN PASSWORD :'myuser_owner';
ALTER ROLE myuser_a LOGIN PASSWORD :'myuser_a';
ALTER ROLE myuser_b LOGIN PASSWORD :'myuser_b';
ALTER ROLE backup LOGIN PASSWORD :'backup';
-- Two connections of each of two pods, while one replaces the other; never all that the services could have.
ALTER ROLE metrics LOGIN CONNECTION LIMIT 4 PASSWORD :'metrics';
GRANT myuser TO myuser_a, myuser_b;
GRANT pg_read_all_data TO backup;
GRANT pg_monitor TO metrics;

-- Who is no superuser can give away only to a role that he is in, and has the owner's say only in it; since Postgres 16
-- he who made it is in it without that.
SELECT format('GRANT myuser_owner TO %I', rolname) FROM pg_roles WHERE rolname = current_user AND NOT rolsuper \gexec

-- Whoever owns the database owns its schema `public`.
SELECT 'ALTER DATABASE myapp OWNER TO myuser_owner'
FROM pg_database WHERE datname = 'myapp' AND datdba <> 'myuser_owner'::regrole \gexec
REVOKE ALL ON DATABASE myapp FROM PUBLIC;
GRANT CONNECT ON DATABASE myapp TO myuser, backup, metrics;
REVOKE CREATE ON SCHEMA public FROM PUBLIC;
GRANT USAGE ON SCHEMA public TO myuser;

-- What the admin once made. A sequence of a column goes with its table, and what an extension has stays the extension's.
SELECT format('ALTER TABLE %s OWNER TO myuser_owner', oid::regclass)
FROM pg_class
WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p', 'v', 'm', 'S')
  AND relowner <> 'myuser_owner'::regrole
  AND NOT EXISTS (SELECT FROM pg_depend WHERE classid = 'pg_class'::regclass AND objid = pg_class.oid AND deptype IN ('a', 'i', 'e'))
\gexec

GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO myuser;
GRANT USAGE, SELECT ON ALL SEQUENCES IN SCHEMA public TO myuser;
-- Of no schema but this one: the other services have theirs.
ALTER DEFAULT PRIVILEGES FOR ROLE myuser_owner REVOKE ALL ON TABLES FROM myuser;
ALTER DEFAULT PRIVILEGES FOR ROLE myuser_owner REVOKE ALL ON SEQUENCES FROM myuser;
ALTER DEFAULT PRIVILEGES FOR ROLE myuser_owner IN SCHEMA public GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO myuser;
ALTER DEFAULT PRIVILEGES FOR ROLE myuser_owner IN SCHEMA public GRANT USAGE, SELECT ON SEQUENCES TO myuser;
\ir services.sql
COMMIT;
