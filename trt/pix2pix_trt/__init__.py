"""How a trained generator runs fast on NVIDIA GPUs: engines of TensorRT and TensorRT-RTX, built, kept and run."""
