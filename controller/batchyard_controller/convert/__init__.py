"""
Convert: wire messages to core values and back, and nothing else.

Protobuf ends here. A wrong enum number is a violation, like any other bad value.
"""
