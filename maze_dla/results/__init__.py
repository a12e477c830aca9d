"""Finished results: frozen arrays with their statistics, tables and files."""
