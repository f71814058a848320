"""Golden values of @csa_compress: the part of DeepseekV4Attention that csa.py takes apart."""
from csa import main

if __name__ == "__main__":
    main("csa_compress", 62)
