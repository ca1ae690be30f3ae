"""The side of those who decide which version gets which share: release documents and how they change."""
