"""The Store on PostgreSQL: see datastore/DESIGN.md."""
