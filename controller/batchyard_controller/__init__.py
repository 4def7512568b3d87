"""The Batchyard controller: desired state, decisions, and the gRPC services."""
