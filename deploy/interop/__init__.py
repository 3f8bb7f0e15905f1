"""Does the quantized folder mean to others what it means to us? auto-gptq 0.7.1, transformers and vLLM's rules are asked."""
