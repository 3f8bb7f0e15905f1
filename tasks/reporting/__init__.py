"""The nightly report and the model card in parts: reading, figures (SVG), parts (what a page is made of), sections, samples."""
