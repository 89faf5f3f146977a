"""Fewer bits a weight, chosen from data (the quantised releases of the Qwen memo).

Read in this order:

    gptq.py                  one matrix: round it so that its outputs change least
    coordinate_descent.py    passes over codes and scales after that
    calibration.py           a network, layer by layer, on the activations it really has
    gptq_model.py            MODEL → a folder in GPTQ's format: what `qianwen quantize` does
    resume.py                what a stopped quantisation has finished, so that it goes on
    tune_scales.py           the scales of a quantised model, trained to match its source

Not here: rounding without data and packing (`kernels/`), linears over codes (`model/linears/`), folders
(`checkpoints/gptq_folder.py`).
"""
