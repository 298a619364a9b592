"""Figures for operators: what is counted, and the text that scrapers read."""
