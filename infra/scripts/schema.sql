-- The schema of a service, of which `role` is the name; by service.sql, and by a restore as its owner.
CREATE SCHEMA IF NOT EXISTS :"role" AUTHORIZATION myuser_owner;
GRANT USAGE ON SCHEMA :"role" TO :"role";
GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA :"role" TO :"role";
GRANT USAGE, SELECT ON ALL SEQUENCES IN SCHEMA :"role" TO :"role";
ALTER DEFAULT PRIVILEGES FOR ROLE myuser_owner IN SCHEMA :"role" GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO :"role";
ALTER DEFAULT PRIVILEGES FOR ROLE myuser_owner IN SCHEMA :"role" GRANT USAGE, SELECT ON SEQUENCES TO :"role";

-- Where its history is in `public`, since it migrated there before, it has what is named after it there.
SELECT format(CASE relkind WHEN 'S' THEN 'GRANT USAGE ON SCHEMA public TO %2$I; GRANT USAGE, SELECT ON SEQUENCE public.%1$I TO %2$I'
  ELSE 'GRANT USAGE ON SCHEMA public TO %2$I; GRANT SELECT, INSERT, UPDATE, DELETE ON public.%1$I TO %2$I' END, relname, :'role')
FROM pg_class
WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p', 'v', 'm', 'S')
  AND starts_with(relname, substring(:'role' FROM 5) || '_')
  AND to_regclass('public.alembic_version_' || substring(:'role' FROM 5)) IS NOT NULL
\gexec
