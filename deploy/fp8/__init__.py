"""An FP8 (dynamic W8A8) folder of the merged model, written and checked on a CPU, for GPUs that multiply in FP8."""
