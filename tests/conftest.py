"""Hypothesis profiles: `ci` always runs the same examples; `deep` looks further, for a change in policy or ipam.

Choose with HYPOTHESIS_PROFILE=deep.
"""

import os

from hypothesis import HealthCheck, settings

settings.register_profile("ci", derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("deep", settings.get_profile("ci"), derandomize=False, max_examples=2000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))
