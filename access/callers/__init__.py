"""callers.yaml: who may call the access service, and what each may do."""
