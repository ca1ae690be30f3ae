"""The access service: the control plane of the proxy."""
