"""The Batchyard agent: runs attempts on one host and reports what it sees."""
