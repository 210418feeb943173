"""The Store in etcd v3, which many machines share."""
