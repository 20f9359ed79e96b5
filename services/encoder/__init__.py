"""The encoder deployment: texts and histories to vectors; writes item and interest vectors."""
