"""The commands of `dl-inference`, one file each, and what they print; `dl_inference.cli` is their door."""
