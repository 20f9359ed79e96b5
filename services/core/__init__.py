"""Pure maths and rules: no files, clock, environment, gRPC, Feast or Ray."""
