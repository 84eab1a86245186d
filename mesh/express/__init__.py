"""The express lane: the hot call, carried by an Envoy alone. Start reading at `lane.lua`.

Law: nothing here knows the gateway; what it must know of it comes in as `Rules` and `Front`.
"""
