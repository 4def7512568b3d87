"""AWS Batch over the SDK: operations, what they take, and translations both ways."""
