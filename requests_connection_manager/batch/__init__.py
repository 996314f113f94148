"""Many requests at once: `run` takes items and yields results, `workers` send them."""

from .items import BatchItem, BatchResult
from .progress import BatchProgress
from .progress import Listener as ProgressListener
from .run import batch_request, iter_batch
from .workers import Callback

__all__ = [
    "BatchItem",
    "BatchProgress",
    "BatchResult",
    "Callback",
    "ProgressListener",
    "batch_request",
    "iter_batch",
]
