"""A shop's outgoing webhook: what happened is queued as events (`follower.py`) and sent, signed, until it is taken
(`sender.py`). The rules are in README.md."""
