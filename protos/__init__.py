"""The contract: what is said on the wire, and its one form in Python.

Everything that a caller, the gateway and a worker must agree on lives here: the messages, the errors and how they
become statuses, the trace context and its attribute names. Nothing here decides anything, and nothing here imports
another of our packages.
"""
