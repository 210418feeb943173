"""One for a cluster: what departed nodes leave is taken back, and pools say how full they are."""
