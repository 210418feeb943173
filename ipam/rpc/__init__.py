"""IPAM as a service: tortie.ipam.v1 over gRPC on a unix socket."""
