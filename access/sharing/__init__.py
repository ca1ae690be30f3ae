"""Limits that several access services share by a Redis: each says there what it wants, and allows its part."""
