"""The nightly report in parts: reading, figures (SVG), parts (what the page is made of), sections and samples."""
