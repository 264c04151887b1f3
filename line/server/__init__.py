"""`sise-ort serve`: bundles behind HTTP, by KServe's protocols; needs the extra `serve`."""
