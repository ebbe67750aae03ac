-- A service's own roles and schema; `role` is the name of both. roles.sql includes it for each service, any number of times.
SELECT format('CREATE ROLE %I', name)
FROM unnest(ARRAY[:'role', :'login_owner', :'login_a', :'login_b']) AS name
WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = name) \gexec
ALTER ROLE :"role" NOLOGIN;
ALTER ROLE :"login_a" LOGIN PASSWORD :'verifier_a';
ALTER ROLE :"login_b" LOGIN PASSWORD :'verifier_b';
ALTER ROLE :"login_owner" LOGIN PASSWORD :'verifier_owner';
GRANT :"role" TO :"login_a", :"login_b";
GRANT myuser_owner TO :"login_owner";
GRANT CONNECT ON DATABASE myapp TO :"role", :"login_owner";

-- What it had before services had a schema of their own stays in `public`, and is found there.
ALTER ROLE :"login_a" SET search_path = :"role", public;
ALTER ROLE :"login_b" SET search_path = :"role", public;
ALTER ROLE :"login_owner" SET search_path = :"role", public;
-- All that a migration makes belongs to one role, which restores it too.
ALTER ROLE :"login_owner" SET role = 'myuser_owner';

\ir schema.sql
