"""status: how nodes, pools, policies and the controller are, and what to do about what is wrong."""
