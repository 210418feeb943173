"""Linux: netlink, ipset, iptables, namespaces, and a fake of them."""
