"""Makes every HTTP call that goes through ``requests`` resilient."""

from .batch import BatchProgress, BatchResult
from .contexts import ErrorContext, RequestContext, ResponseContext
from .events import AttemptMade, BreakerChanged, Event, RetryPlanned, Throttled
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
from .hooks import HookType
from .manager import ConnectionManager
from .oauth2 import OAuth2ClientCredentials
from .process_wide import install, managed, uninstall
from .redaction import is_sensitive_field, redact_sensitive_data
from .report import ScopeStatistics, Statistics
from .stats import Counts

__version__ = "2.0.0.dev0"

__all__ = [
    "Attempt",
    "AttemptMade",
    "AuthenticationError",
    "BatchProgress",
    "BatchResult",
    "BreakerChanged",
    "CircuitBreakerOpen",
    "ConcurrencyLimitExceeded",
    "ConfigurationError",
    "ConnectionManager",
    "ConnectionManagerError",
    "Counts",
    "DeadlineExceeded",
    "ErrorContext",
    "Event",
    "Explanation",
    "HookType",
    "ManagerClosed",
    "MaxRetriesExceeded",
    "OAuth2ClientCredentials",
    "RateLimitExceeded",
    "RequestContext",
    "ResponseContext",
    "RetryPlanned",
    "ScopeStatistics",
    "Statistics",
    "Throttled",
    "__version__",
    "install",
    "is_sensitive_field",
    "managed",
    "redact_sensitive_data",
    "uninstall",
]
