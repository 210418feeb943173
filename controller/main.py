"""tortie-controller: for now only its name."""
