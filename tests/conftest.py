import os

from hypothesis import settings

# Since 1.29 ONNX Runtime reports models and machines to its makers, unless told otherwise before its import.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

# Properties whose every example is a call take few of them in the ordinary run, and as many as this in a thorough one.
settings.register_profile("thorough", max_examples=2000)
