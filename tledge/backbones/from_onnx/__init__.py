"""ONNX files of a user's own → backbones: one step per file."""
