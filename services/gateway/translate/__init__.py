"""Wire messages <-> core types; nothing else in the gateway builds or reads messages."""
