"""How the labelling pages look: light and dark, phone and desk. Colours are the server's own, so they follow its switch.

`>` does not survive in a page's style, so there are no child selectors here. The server's panels for regions of a text
have no use on these pages and would take a third of the window: they are hidden. What is asked stays in view below
answers that are longer than the window; a shade says where text goes on below the edge of its box.
"""

STYLE = """
.ns { --line: var(--color-neutral-border, #ccc); --ground: var(--color-neutral-background, #fff);
  --soft: var(--color-neutral-surface, #f4f4f2); --ink: var(--color-neutral-content, #222);
  --pale: var(--color-neutral-content-subtler, #777); --mark: var(--color-primary-border, #617ada);
  --marked: var(--color-primary-emphasis-subtle, #eef1ff);
  color: var(--ink); font-size: 15px; line-height: 1.55; max-width: 1240px; margin: 0 auto; }
.ns-text { overflow-wrap: anywhere; unicode-bidi: isolate; }
.ns-text p, .ns-text ul, .ns-text ol, .ns-text pre, .ns-text blockquote, .ns-text .ns-scroll { margin: 0 0 .5em; }
.ns-text p:last-child { margin-bottom: 0; }
.ns-text ul { list-style: disc; padding-left: 1.4em; }
.ns-text ol { list-style: decimal; padding-left: 1.8em; }
.ns-text h1, .ns-text h2, .ns-text h3, .ns-text h4, .ns-text h5, .ns-text h6 { color: inherit; font-size: 1.05em;
  font-weight: 700; margin: .3em 0; }
.ns-text pre { overflow-x: auto; padding: .5em .7em; border: 1px solid var(--line); border-radius: 6px; background: var(--soft); }
.ns-text code { font-family: ui-monospace, monospace; font-size: .9em; }
.ns-text blockquote { border-left: 3px solid var(--line); padding-left: .8em; color: var(--pale); }
.ns-text .ns-scroll { overflow-x: auto; }
.ns-text table { border-collapse: collapse; }
.ns-text th, .ns-text td { border: 1px solid var(--line); padding: .15em .6em; text-align: left; }
.ns-text th { font-weight: 600; }
.ns-link { text-decoration: underline dotted; }
.ns-address, .ns-none { color: var(--pale); font-size: .9em; overflow-wrap: anywhere; }
.ns-role { color: var(--pale); font-size: 12px; margin-top: .5em; }
.ns-question { font-size: 17px; font-weight: 600; margin: 2px 0 10px; }
.ns-turn { margin-bottom: .5em; }
.ns-notes { --under: var(--ground);
  display: grid; grid-template-columns: repeat(auto-fit, minmax(min(300px, 100%), 1fr)); gap: 8px; margin-bottom: 12px;
  max-height: 38vh; overflow: auto; }
.ns-note { display: flex; gap: 8px; font-size: 14px; padding: 6px 10px; border: 1px dashed var(--line); border-radius: 8px;
  min-width: 0; }
.ns-note .ns-text { min-width: 0; }
.ns-number { color: var(--pale); font-weight: 600; }
.ns-pair { display: grid; grid-template-columns: 1fr 1fr; gap: 12px; margin-bottom: 12px; }
.ns-card { border: 1px solid var(--line); border-radius: 10px; background: var(--soft); padding: 10px 14px; min-width: 0; }
.ns-plain .ns-letter { display: none; }
.ns-letter, .ns .ns-rank .htx-ranker-item h5 { font-weight: 700; font-size: 15px; color: var(--mark); margin-bottom: 2px; }
.ns .lsf-htx-richtext { font-size: inherit; line-height: inherit; }

.ns h4 { font-size: 13px; font-weight: 600; line-height: 1.4; color: var(--pale); margin: 0 0 5px !important; }
.ns .ns-control { margin: 0 !important; }
.ns .lsf-choices { display: flex; flex-wrap: wrap; gap: 6px; margin: 0; padding: 0; }
.ns .lsf-choice, .ns .lsf-choice__item { margin: 0; padding: 0; line-height: 22px; }
.ns .ant-checkbox-wrapper { border: 1px solid var(--line); border-radius: 8px; padding: 5px 10px; margin: 0; font-weight: 500;
  background: var(--ground); color: var(--ink); height: auto; align-items: center; }
.ns .ant-checkbox { top: 0; align-self: center; }
.ns .ant-checkbox-wrapper:hover, .ns .ant-checkbox-wrapper:focus-within { border-color: var(--mark); }
.ns .ant-checkbox-wrapper-checked { border-color: var(--mark); background: var(--marked); box-shadow: 0 0 0 1px var(--mark); }
.ns kbd { font: 600 11px ui-monospace, monospace; border: 1px solid var(--line); border-bottom-width: 2px; border-radius: 4px;
  padding: 0 5px; margin-left: 4px; color: var(--pale); background: var(--soft); }
.ns .lsf-hint { display: none; }
.ns-ask { position: sticky; bottom: 0; z-index: 5; display: flex; flex-wrap: wrap; gap: 10px 28px; padding: 10px 0 12px;
  background: var(--ground); border-top: 1px solid var(--line); box-shadow: 0 16px 0 var(--ground); }
.ns-ask .ns-verdict, .ns-ask .ns-confirmed, .ns-ask .ns-decision { flex-basis: 100%; }
.ns-verdict .ant-checkbox-wrapper, .ns-confirmed .ant-checkbox-wrapper, .ns-decision .ant-checkbox-wrapper { padding: 8px 16px; }

.ns-rank { --under: var(--soft); margin-bottom: 12px; }
.ns-rank div { border-color: transparent; min-width: 0; }
.ns-rank div[class*="board"] { padding: 0; }
.ns-rank div[class*="columnTitle"] { display: none; }
.ns-rank .htx-ranker-column { background: none; padding: 0; overflow: visible; }
.ns-rank [data-rbd-droppable-id] { counter-reset: place; }
.ns-rank .htx-ranker-item { counter-increment: place; position: relative; border: 1px solid var(--line); border-radius: 10px;
  background: var(--soft); color: var(--ink); padding: 8px 14px 10px 52px; cursor: grab; }
.ns-rank .htx-ranker-item:focus-visible { outline: 2px solid var(--mark); }
.ns-rank .htx-ranker-item::before { content: counter(place); position: absolute; left: 16px; top: 8px; font-size: 20px;
  font-weight: 700; color: var(--pale); }
.ns-rank .htx-ranker-item p:last-child { display: none; }
.ns-rank .htx-ranker-item p p:last-child { display: block; }
.ns-rank .ns-answer { max-height: 15em; overflow: auto; }
.ns-rank .ns-answer, .ns-notes { background: linear-gradient(var(--under) 40%, transparent) 0 0 / 100% 40px no-repeat local,
  linear-gradient(transparent, var(--under) 60%) 0 100% / 100% 40px no-repeat local,
  linear-gradient(var(--line), transparent) 0 0 / 100% 10px no-repeat scroll,
  linear-gradient(transparent, var(--line)) 0 100% / 100% 10px no-repeat scroll; }
.ns-edit textarea { color: var(--ink); background: var(--ground); font-size: 15px; line-height: 1.55; }
.ns-edit { margin-bottom: 12px; }

.lsf-sidepanels__wrapper { display: none !important; }
.lsf-sidepanels__content { width: 100% !important; padding: 0 !important; margin: 0 !important; }
.lsf-sidepanels { padding: 0 !important; }
@media (max-width: 760px) {
  .ns-pair { grid-template-columns: 1fr; gap: 8px; }
  .ns-ask { position: static; }
  .ns-notes { max-height: none; }
  .ns .ant-checkbox-wrapper { padding: 8px 12px; }
  .ns kbd { display: none; }
  .ns-rank .htx-ranker-item { padding-left: 44px; }
  .lsf-editor { margin: 0 !important; width: 100% !important; }
  .lsf-menu-header__context-item_left, .lsf-menu-header__hotkeys, .lsf-menu-header__context-item_right a,
  .lsf-bottombar__section:nth-of-type(2), .lsf-menu-header__trigger svg { display: none !important; }
  .lsf-menu-header__trigger { width: 56px; }
  .lsf-menu-header__context { justify-content: flex-end; min-width: 0; }
  .lsf-modal-ls__content { max-width: 94vw; min-width: 0 !important; }
  .lsf-bottombar .lsf-controls .lsf-button, .lsf-bottombar button { width: auto !important; min-width: 0; }
}
"""
