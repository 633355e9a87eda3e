"""Match the columns of one table set to another."""
