"""python -m sample_service.migrate: apply the migrations of this version to the database."""

from servicekit import migration

from sample_service.settings import SampleServiceSettings

if __name__ == "__main__":
    migration.run(SampleServiceSettings, "sample_service")
