"""`ssiforge export`: a causal model as one streaming ONNX graph, written, compared with torch, and run."""
