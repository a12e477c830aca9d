"""A report of one model on one task: an HTML page, its pictures and the result itself."""
