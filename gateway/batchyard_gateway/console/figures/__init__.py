"""What the yard was doing of late, and charts of it."""
