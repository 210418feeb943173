"""What the cluster knows: resources, the Store contract and its drivers."""
