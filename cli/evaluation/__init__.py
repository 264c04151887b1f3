"""What `sise-ort evaluate` shows: plots and a page."""
