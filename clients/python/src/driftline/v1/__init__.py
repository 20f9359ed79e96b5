"""Generated wire stubs; `make proto` writes them."""
