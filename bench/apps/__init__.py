"""What is served while it is measured."""
