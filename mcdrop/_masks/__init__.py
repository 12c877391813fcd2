"""Which units a pass keeps: streams of random bits, stratified patterns, kernels."""
