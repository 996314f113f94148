"""Makes every HTTP call that goes through ``requests`` resilient."""

from importlib import import_module
from threading import RLock
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
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
        StateUnavailable,
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
    "StateUnavailable",
    "Statistics",
    "Throttled",
    "__version__",
    "install",
    "is_sensitive_field",
    "managed",
    "redact_sensitive_data",
    "uninstall",
]

_NAMES = {
    "batch": "BatchProgress BatchResult",
    "contexts": "ErrorContext RequestContext ResponseContext",
    "events": "AttemptMade BreakerChanged Event RetryPlanned Throttled",
    "exceptions": (
        "Attempt AuthenticationError CircuitBreakerOpen ConcurrencyLimitExceeded "
        "ConfigurationError ConnectionManagerError DeadlineExceeded ManagerClosed "
        "MaxRetriesExceeded RateLimitExceeded StateUnavailable"
    ),
    "explanation": "Explanation",
    "hooks": "HookType",
    "manager": "ConnectionManager",
    "oauth2": "OAuth2ClientCredentials",
    "process_wide": "install managed uninstall",
    "redaction": "is_sensitive_field redact_sensitive_data",
    "report": "ScopeStatistics Statistics",
    "stats": "Counts",
}
_HOMES = {name: home for home, names in _NAMES.items() for name in names.split()}
"""Where each name comes from, when it is asked for: to import this package costs nothing yet."""
_lock = RLock()


def __getattr__(name: str) -> Any:
    with _lock:  # requests itself cannot be imported by two threads at once
        if name in _NAMES:
            return import_module(f".{name}", __name__)
        home = _HOMES.get(name)
        if home is None:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        found = globals()[name] = getattr(import_module(f".{home}", __name__), name)
        return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, *_NAMES})
