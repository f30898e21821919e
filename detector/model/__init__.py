"""The model file and its scorer. onnxruntime computes; neither TensorFlow nor the onnx package is needed."""
