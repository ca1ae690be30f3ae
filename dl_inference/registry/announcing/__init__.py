"""The side of the servers: a node for what each serves, for as long as it lives."""
