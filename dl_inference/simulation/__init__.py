"""Balancing policies in virtual time: scenarios, and what policies make of them. Rust runs them."""
