"""The Kubernetes API as a Store: custom resources for our kinds, Kubernetes' own for the rest."""
