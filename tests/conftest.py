import os

# Since 1.29 ONNX Runtime reports models and machines to its makers, unless told otherwise before its import.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
