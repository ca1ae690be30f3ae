"""dl-inference: one gRPC address for every model."""
