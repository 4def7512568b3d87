"""The gateway: the AWS Batch API, and what surrounds it, over the SDK."""
