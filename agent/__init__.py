"""One node: watches the datastore, serves CNI and IPAM, applies policy and routes."""
