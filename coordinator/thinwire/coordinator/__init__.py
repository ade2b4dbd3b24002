"""The service: rounds over HTTP, the state machine, the store, the ledger. Never imports torch."""
