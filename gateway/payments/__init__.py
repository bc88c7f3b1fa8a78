"""Payment providers: how a payment begins at one, and what one may tell us.

A provider is what `flows.pay` asks for a checkout; afterwards it speaks by signed notices (`notices.py`), which come in
by HTTP whoever the provider is. One that exists in development only is in `sandbox.py`.
"""
