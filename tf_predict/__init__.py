"""A TF-Serving-compatible server for machines without a tensorflow_model_server binary."""
