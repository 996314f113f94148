"""Makes every HTTP call that goes through ``requests`` resilient."""

from .exceptions import (
    Attempt,
    AuthenticationError,
    CircuitBreakerOpen,
    ConcurrencyLimitExceeded,
    ConfigurationError,
    ConnectionManagerError,
    DeadlineExceeded,
    ManagerClosed,
    MaxRetriesExceeded,
    RateLimitExceeded,
)
from .explanation import Explanation
from .manager import ConnectionManager

__version__ = "2.0.0.dev0"

__all__ = [
    "Attempt",
    "AuthenticationError",
    "CircuitBreakerOpen",
    "ConcurrencyLimitExceeded",
    "ConfigurationError",
    "ConnectionManager",
    "ConnectionManagerError",
    "DeadlineExceeded",
    "Explanation",
    "ManagerClosed",
    "MaxRetriesExceeded",
    "RateLimitExceeded",
    "__version__",
]
