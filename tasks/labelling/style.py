"""How the labelling pages look: light and dark, phone and desk. Colours are the server's own, with a stand-in each.

`>` does not survive in a page's style, so there are no child selectors here.
"""

STYLE = """
.ns { --ns-line: var(--color-neutral-border, #ccc); --ns-ground: var(--color-neutral-background, #fff);
  --ns-soft: var(--color-neutral-surface, #f6f6f6); --ns-ink: var(--color-neutral-content, #222);
  --ns-pale: var(--color-neutral-content-subtler, #777); --ns-mark: var(--color-primary-border, #617ada);
  color: var(--ns-ink); font-size: 15px; line-height: 1.55; max-width: 1200px; margin: 0 auto; }
.ns-text { overflow-wrap: anywhere; }
"""
