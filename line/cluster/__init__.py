"""Many pictures on many machines, by Ray: `explain_dataset`, and the server on Ray Serve."""
