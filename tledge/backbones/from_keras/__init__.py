"""Networks that Keras builds or reads → ONNX graphs. The one home of TensorFlow."""
