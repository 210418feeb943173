"""The resources: frozen values with a name, one module for each kind of thing."""
