"""What open pages are told: one look at the controller for all of them."""
