"""Pages of the yard as a whole: overview, search, secrets, access keys, about, and signing in."""
