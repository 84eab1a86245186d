"""The front door: the command line and the demo. It composes the other packages; nothing imports it."""
