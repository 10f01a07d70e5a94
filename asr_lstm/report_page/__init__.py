"""report.html: one self-contained page of what a recipe made, for people to look at and to listen to."""

from asr_lstm.report_page.page import report_command, write_report_page

__all__ = ["report_command", "write_report_page"]
