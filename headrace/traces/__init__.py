"""Traces without a Jaeger, and with one: `headrace collector` keeps them, `headrace trace` shows them.

OTLP comes in at `receiver` and is read in `otlp`; `store` keeps it; `api` answers what is asked of it (`query`), in
Jaeger's JSON (`written`). `collector` puts these together. `source` asks any Jaeger or us, and `read` reads the
answers. `tree` sorts spans, `attempts` tells tries apart, `told` and `summary` put it into words, and `waterfall` and
`listing` draw.
"""
