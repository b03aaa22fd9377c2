"""From a trained or published network to the one ONNX file that the robot runs."""
