"""The Store in SQL: SQLite today; schema and statements are meant for PostgreSQL too."""
