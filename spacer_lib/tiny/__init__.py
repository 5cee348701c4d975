"""The embedded default: a tiny Qwen2.5-VL, its curriculum and its warm start."""
