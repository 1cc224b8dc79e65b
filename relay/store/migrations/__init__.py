"""The way from any earlier form of the database to the one of `relay.store.tables`; read by Alembic."""
