"""Golden values of @flash23_backward: the same cases as in flash23.py, and autograd through them. Run by `make golden`;
writes flash23_backward.txt."""
from flash23 import write  # flash23.py beside this file

write(__file__, True)
