"""From the settings of a URL to its policies."""

from .breakers import breaker_key
from .endpoint import Endpoint, assemble
from .limits import LIMIT_SETTINGS, refuse_impossible
from .merging import Merged, Rule, merge
from .site import Site

__all__ = [
    "LIMIT_SETTINGS",
    "Endpoint",
    "Merged",
    "Rule",
    "Site",
    "assemble",
    "breaker_key",
    "merge",
    "refuse_impossible",
]
