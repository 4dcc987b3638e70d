"""What operators look at and type: tables, orders, calls."""
