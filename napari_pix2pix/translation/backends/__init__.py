"""What runs the stages of a generator: PyTorch, OpenVINO or TensorRT, behind one interface."""
