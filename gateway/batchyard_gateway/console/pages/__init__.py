"""Pages, a noun each: they read through the SDK and hand a template what it shows."""
