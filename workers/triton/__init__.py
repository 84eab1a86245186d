"""The real Triton, started so that it suits a gateway in front.

`installed` finds the server, `staging` makes a repository that it can serve, `arguments` says how it is to run,
`server` puts these together; `hosted` runs inside Triton, where it has not the backend that a model asks for.
"""
