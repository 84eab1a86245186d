"""Why a call goes where it goes. Law: everything is read from what the compiler made for Envoy, as Envoy reads it.

`places` finds who calls and which host is a model's, `hosts` and `matcher` do what Envoy does with a call, `explain`
goes through the routes with them. What the winner means is put in words by `routes` and `clusters`; a sentence there
says a number's meaning, so that no one has to know Envoy to act on it.
"""
