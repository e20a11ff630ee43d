"""Module in, module out, before the optimizer exists: what is added to a model that is otherwise left alone.

Models know nothing of it, and it knows nothing of losses, text or files.
"""

from smidgen.surgery.adapter import Adapter, attach
from smidgen.surgery.config import AdapterConfig, read_adapter, resolve, write_adapter
from smidgen.surgery.fingerprint import model_fingerprint
from smidgen.surgery.text import AdapterText, from_text, read_text, to_text

__all__ = [
    "Adapter",
    "AdapterConfig",
    "AdapterText",
    "attach",
    "from_text",
    "model_fingerprint",
    "read_adapter",
    "read_text",
    "resolve",
    "to_text",
    "write_adapter",
]
