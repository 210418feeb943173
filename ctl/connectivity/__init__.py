"""connectivity test: pods on every node try each other, with policies and without; nothing of them stays."""
