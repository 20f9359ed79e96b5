"""The public gRPC server: reads the online store and the published index, appends to its inbox."""
