"""Who may come in: signing in, and sessions."""
