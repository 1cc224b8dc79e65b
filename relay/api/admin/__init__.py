"""The admin API on the operations listener."""
