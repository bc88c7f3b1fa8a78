"""The order writer: what the stream holds becomes rows of the ledger, many entries a transaction."""
