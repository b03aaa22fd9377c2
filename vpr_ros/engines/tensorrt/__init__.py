"""TensorRT and TensorRT for RTX: every call of these libraries and of pycuda that vpr_ros makes.

`backend` is TensorRT and `rtx` is what differs in TensorRT for RTX; `builder` makes plans of graphs that `readable`
prepared, `engine` runs them with what `execution` has on the GPU.

Written for TensorRT 8.5 (JetPack 5.1), 8.6 (JetPack 6.0), 10 (JetPack 6.1 and 7, desktop) and 11 (desktop). **Nothing
here has run on a GPU yet**: names and signatures are compared with the bindings of 8.6.1, 10.0.1 and 11.4.0 (8.5's
could not be had) in test/engines/tensorrt/test_names.py, the flow runs there against an imitation of them, the CUDA
calls ran with the real pycuda 2026.1 over a driver that is not one, and `vpr benchmark --check` is how a machine with a
GPU answers.

- Precision is in the graph. From 10 on networks are strongly typed and obey it. 8 cannot: it is allowed FP16 or INT8
  and may then also lower operators that the graph keeps in float32; the parity gate judges the result.
- TensorRT takes uint8 only into a cast (NVIDIA/TensorRT#3985) and dequantises no int32 (onnxruntime#14229): `readable`
  moves a transposition behind the cast and undoes quantised constants. What the model computes stays the same.
- One thread owns the context, stream, buffers and graphs of an engine. The context is current only while a call runs:
  pycuda aborts the process if a thread ends with a context on its stack.
- pycuda 2026.1 has no CUDA graphs; six functions of the driver, which is open anyway, do (`NvidiaDriver`). A graph
  belongs to one execution context and one batch size: batch 1 and the largest batch have them, sizes between run
  without.
- The GPU is device 0; CUDA_VISIBLE_DEVICES chooses which one that is.
"""
