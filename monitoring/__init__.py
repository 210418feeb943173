"""What a program tells probes and Prometheus of itself, over HTTP."""
