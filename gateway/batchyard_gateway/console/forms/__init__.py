"""What the console asks: forms as tables of fields, one file a noun; see docs/decisions/0020."""
