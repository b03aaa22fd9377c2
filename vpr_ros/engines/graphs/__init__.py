"""A model's graph in other arithmetic: the same file format, images uint8 in and descriptors float32 out.

One graph serves every library. What is heavy changes; what is delicate stays in fp32: normalising the image, the powers
and sums of pooling, lengths of vectors.
"""
