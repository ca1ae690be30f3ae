"""The side of the access services: the whole registry in memory, up to date, and when it cannot be."""
