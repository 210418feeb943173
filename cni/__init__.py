"""One pod's interface: the CNI contract, attach and detach, the server behind the relay."""
