"""`headrace demo`: the whole way of a call on one machine, with real models, tokens, workers, gateway and traces.

`run` composes it. `stage` sets up: `digits` trains and exports, `repository` and `config` write what the workers and
the gateway read, `processes` holds these two. `issuer` signs tokens; `headrace.traces` keeps spans. `tour` calls and
checks, `show` draws. `samples` and `state` are for the commands that a user tries next.
"""
