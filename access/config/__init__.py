"""The configuration of the access service: its keys, how files and environment become it, and what is checked."""
