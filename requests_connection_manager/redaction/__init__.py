"""What may be shown of a request: never a credential.

Law: a field is told by its name, and its whole value goes; in doubt, it goes.
"""

from .errors import redact_error
from .names import REDACTED, is_sensitive_field
from .urls import public_url
from .values import redact_sensitive_data, redact_text

__all__ = [
    "REDACTED",
    "is_sensitive_field",
    "public_url",
    "redact_error",
    "redact_sensitive_data",
    "redact_text",
]
