"""The schema's names and types that all tables share."""

import sqlalchemy as sa
from sqlalchemy import Integer

metadata = sa.MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
    }
)

# BIGINT keys that SQLite can still auto-increment.
SerialId = sa.BigInteger().with_variant(Integer, "sqlite")
Amount = sa.BigInteger
Json = sa.JSON
