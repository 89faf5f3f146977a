"""The kernels in C++ for x86 processors, compiled at first use, and the Python functions that call them."""
