"""Every form a linear of the network can take; each is called like `nn.Linear`.

packed.py            few bits, packed for the fast kernels
nf4.py               four bits to train an adapter over (Q-LoRA)
gptq_layout.py  gptq_codes.py    the codes of a GPTQ checkpoint, kept as they are
tuned.py             the same with scales that learn
frozen.py            the product that all of the above share where a gradient flows through
low_rank.py  lora.py adapters beside a linear; adapter_bank.py many adapters over one network
"""
