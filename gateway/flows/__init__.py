"""Use cases, one a file. Each says what it needs of its neighbours in small protocols; `app` hands in the real ones."""
