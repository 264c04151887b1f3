"""The methods that SISE is compared with, one file each, on the runtime alone."""
