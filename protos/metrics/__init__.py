"""Numbers that processes tell of themselves: counted in one way, and told to Prometheus and by OTLP alike."""
