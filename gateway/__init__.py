"""The data plane: one call's way from socket to worker.

A call enters in `service`, which strings the steps together: `verify` (who calls), `read_call` (what is asked),
`authorize` (may they), `choose` (where to), `forward` (bytes there and back). Each step is a function on frozen
values in the module of its name; `server` composes them once per process.
"""
