"""A cluster on one machine: nodes are network namespaces."""
