"""What the validate stage is made of: frames of raw rows, suites of expectations, Data Docs that need no network."""
