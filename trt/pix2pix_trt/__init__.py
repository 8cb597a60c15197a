"""How a trained generator runs fast: compiled with TensorRT, TensorRT-RTX or OpenVINO. Not built yet."""
