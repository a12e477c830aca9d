"""A report of one model on one task: an HTML page, its pictures and the result itself."""

from maze_dla.report.write import Report, write_report

__all__ = ["Report", "write_report"]
