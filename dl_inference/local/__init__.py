"""`dl-inference serve`: every model folder on this machine behind one port, a process for each version of a model."""
