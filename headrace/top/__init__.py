"""What a gateway is doing, in a terminal: `read` what it tells, make `rates` of two of these, and have them `shown`.

`source` asks, `watch` asks again and again.
"""
