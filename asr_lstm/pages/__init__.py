"""Pieces of self-contained HTML pages: text, tables and charts that need no network and no script."""

from asr_lstm.pages.charts import bar_chart, histogram, line_chart
from asr_lstm.pages.document import columns, details, notice, page, paragraph, section, stack, table
from asr_lstm.pages.markup import Markup, attributes, escape, joined

__all__ = [
    "Markup",
    "attributes",
    "bar_chart",
    "columns",
    "details",
    "escape",
    "histogram",
    "joined",
    "line_chart",
    "notice",
    "page",
    "paragraph",
    "section",
    "stack",
    "table",
]
