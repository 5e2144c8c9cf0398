"""Figures drawn from their data: static SVG and HTML, without scripts."""
