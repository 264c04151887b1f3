"""Bundle -> explanations, on ONNX Runtime and NumPy alone."""
