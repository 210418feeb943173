"""The Store in a SQLite file: see datastore/DESIGN.md."""
