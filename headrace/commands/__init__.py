"""The commands, one module each. What a command needs is imported inside it, so that `headrace --help` is quick."""
