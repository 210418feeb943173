"""A whole datastore out, in, looked over, and moved to another one."""
