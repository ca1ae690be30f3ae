"""A TF-Serving-compatible server for machines without a tensorflow_model_server binary.

A development tool: the same methods, layout, error codes and texts, on grpcio's own server and TensorFlow's session
runtime. TensorFlow is imported by `tf_predict.saved_model` only.
"""
