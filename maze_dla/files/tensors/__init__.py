"""Tensors in files of torch and safetensors: found and checked first, read when they are asked for; never code."""
