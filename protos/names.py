"""How models and versions may be called. Law: whoever checks such a name checks it here.

A model's name is a folder of a repository, a key of configuration, a header's value and an Istio match: it may hold
what all of these can. A version is Triton's: a positive integer.
"""

from __future__ import annotations

import re
from typing import Final

MODEL_NAME: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,126}")
VERSION: Final = re.compile(r"[1-9][0-9]{0,17}")
