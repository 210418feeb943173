"""One per cluster: addresses reclaimed, departed nodes, pools' status."""
