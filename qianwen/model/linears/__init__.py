"""All types of linears of the network; each is called like `nn.Linear`.

packed.py            few bits, packed for the fast kernels
nf4.py               four bits, as the base of an adapter (Q-LoRA)
gptq_layout.py  gptq_codes.py    the unchanged codes of a GPTQ checkpoint
tuned.py             the same with trainable scales
frozen.py            the product with frozen weights that passes a gradient, used by all of the above
low_rank.py  lora.py adapters of a linear; adapter_bank.py many adapters for one network
"""
