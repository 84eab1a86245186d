"""Shifting traffic: the weights of a VirtualService. Law: what shall change is planned on data; nothing else changes.

`wanted` reads what is asked, `routes` sees a VirtualService as the calls of a model meet it, `plan` says which weights
become what; `files` writes that into YAML (`edit` knows how), `cluster` patches a live object with it.
"""
