"""The style sheet of the page: quiet type on paper, one accent a stage, light or dark as the reader's system is."""

SHEET = """
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; }
body {
  margin: 0; background: var(--paper); color: var(--ink); line-height: 1.55; font-size: 16px;
  font-family: var(--font);
}
main { max-width: 1040px; margin: 0 auto; padding: 48px 28px 96px; }
h1 { font-size: 40px; line-height: 1.1; letter-spacing: -0.02em; margin: 0 0 10px; }
h2 { font-size: 21px; letter-spacing: -0.01em; margin: 48px 0 6px;
  padding-top: 18px; border-top: 1px solid var(--grid); }
h3 { font-size: 15px; margin: 26px 0 6px; }
p { margin: 6px 0 14px; max-width: 74ch; }
.kicker { color: var(--muted); font-size: 13px; letter-spacing: 0.08em; text-transform: uppercase; margin: 0 0 6px; }
.lede, figcaption, .note { color: var(--muted); }
figure { margin: 14px 0 26px; }
figcaption { font-size: 13.5px; margin-top: 6px; max-width: 92ch; }
figure svg { display: block; width: 100%; height: auto; overflow: visible; }
svg * { stroke-linejoin: round; font-family: var(--font); }
.pair { display: grid; grid-template-columns: 1fr 1fr; gap: 0 28px; align-items: start; }
.pair .wide { grid-column: 1 / -1; }
.cards { display: grid; grid-template-columns: repeat(3, 1fr); gap: 12px; margin: 28px 0 8px; }
.card { background: var(--card); border-radius: 0 0 10px 10px;
  padding: 13px 16px 13px; border-top: 3px solid var(--hue, var(--muted)); }
.card b { display: block; font-size: 27px; line-height: 1.2; letter-spacing: -0.02em;
  font-variant-numeric: tabular-nums; }
.card span { display: block; font-size: 13px; color: var(--muted); line-height: 1.4; }
.card .name { color: var(--ink); font-weight: 600; }
.banner { border: 1px solid var(--sft); border-radius: 10px; padding: 11px 16px; margin: 22px 0; font-size: 14.5px; }
.scroll { overflow-x: auto; margin: 12px 0 22px; }
table { border-collapse: collapse; font-size: 13.5px; font-variant-numeric: tabular-nums; width: 100%; }
th, td {
  text-align: right; padding: 5px 10px; border-bottom: 1px solid var(--grid); vertical-align: top; white-space: nowrap;
}
th { color: var(--muted); font-weight: 600; }
th:first-child, td:first-child { text-align: left; padding-left: 0; }
td small { display: block; color: var(--muted); font-size: 11.5px; }
tr.sum td { font-weight: 650; border-bottom: 1px solid var(--muted); }
td.bar { min-width: 110px; background: linear-gradient(to right, var(--grid) var(--share), transparent 0); }
.pretrain { --hue: var(--pretrain); } .sft { --hue: var(--sft); } .rl { --hue: var(--rl); }
.stage { color: var(--hue, var(--other)); font-weight: 600; }
.good { color: var(--rl); font-weight: 650; } .bad { color: var(--bad); font-weight: 650; }
.talk { border-left: 3px solid var(--hue, var(--other)); padding: 2px 0 2px 16px; margin: 18px 0; }
details { margin: 14px 0; } summary { cursor: pointer; font-weight: 600; }
.talk .note { font-size: 13px; }
.talk pre { margin: 5px 0; }
pre {
  font: 13.5px/1.75 ui-monospace, SFMono-Regular, Menlo, Consolas, 'DejaVu Sans Mono', monospace;
  white-space: pre-wrap; overflow-wrap: anywhere; }
.token { border-radius: 3px; padding: 2px 0; box-shadow: inset 0 0 0 0.5px var(--grid);
  background: rgb(var(--unsure) / var(--u)); cursor: help; }
.mark { color: var(--muted); font-size: 0.85em; }
.scale { white-space: nowrap; margin: 0 4px; }
.scale i { display: inline-block; vertical-align: middle; width: 22px; height: 13px;
  background: rgb(var(--unsure) / var(--u)); box-shadow: inset 0 0 0 0.5px var(--grid); }
pre.settings { columns: 3 230px; background: var(--card); border-radius: 10px; padding: 16px 18px;
  font-size: 12.5px; line-height: 1.6; }
pre.settings span { display: block; break-inside: avoid; margin-bottom: 12px; }
footer { margin-top: 60px; color: var(--muted); font-size: 13px; }
@media (max-width: 640px) { main { padding: 28px 16px 64px; } h1 { font-size: 30px; } 
  .pair, .cards { grid-template-columns: 1fr; } }
@media print { main { max-width: none; } h2 { break-after: avoid; } figure { break-inside: avoid; } }
"""
