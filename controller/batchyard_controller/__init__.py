"""The Batchyard controller: desired state, decisions, and the gRPC services."""

import os

# TLS 1.3 alone: grpc has no setting for it and reads this one as it is imported, so it stands before all of ours.
# Of TLS 1.2 it leaves ciphers for RSA, and a controller's certificate never has such a key.
os.environ.setdefault("GRPC_SSL_CIPHER_SUITES", "ECDHE-RSA-AES128-GCM-SHA256")  # noqa: TID251  # see above
