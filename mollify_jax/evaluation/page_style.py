"""The frame and the looks of the report: no script, no font, no other file."""

# Fields: title, style, paper, facts, links, sections; all but `style` and
# `sections` escaped.
PAGE = """\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{title}</title>
<style>
{style}
</style>
</head>
<body>
<header>
<h1>{title}</h1>
<p>{facts}. Error, negative log-likelihood (NLL) and calibration error (ECE)
on clean and degraded test images; the method:
<a href="{paper}">supervised mollification</a>.</p>
</header>
<nav aria-label="Contents"><ul>{links}</ul></nav>
<main>
{sections}
</main>
</body>
</html>
"""

STYLE = """\
:root {
  --ink: #1b1f24; --quiet: #5d6670; --paper: #ffffff; --panel: #f4f6f8;
  --line: #d5dae0; --accent: #0b5cad; --best: #e3f1e6; --mark: #fff0b8;
}
@media (prefers-color-scheme: dark) {
  :root {
    --ink: #e4e8ec; --quiet: #9aa5b1; --paper: #14171b; --panel: #1d2228;
    --line: #363e47; --accent: #79b8ff; --best: #1f3d2a; --mark: #5a4a12;
  }
}
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; }
body {
  margin: 0 auto; padding: 1.5rem 1rem 4rem; max-width: 84rem;
  background: var(--paper); color: var(--ink);
  font: 1rem/1.5 system-ui, sans-serif;
}
h1 { font-size: 1.7rem; line-height: 1.2; margin: 0 0 .5rem; }
h2 {
  font-size: 1.3rem; margin: 2.5rem 0 .75rem; padding-top: .75rem;
  border-top: 1px solid var(--line);
}
h3 { font-size: 1.05rem; margin: 1.5rem 0 .5rem; }
h1, h3, dd, figcaption, li, p { overflow-wrap: anywhere; }
header p { max-width: 46rem; margin: 0; color: var(--quiet); }
a { color: var(--accent); }
nav ul {
  list-style: none; margin: 1rem 0 0; padding: 0;
  display: flex; flex-wrap: wrap; gap: .25rem 1.25rem;
}
figure { margin: 0 0 1.75rem; }
figcaption { margin-bottom: .4rem; color: var(--quiet); font-size: .9rem; }
.scroll { overflow-x: auto; max-width: 100%; }
:focus-visible { outline: 2px solid var(--accent); outline-offset: 2px; }
table {
  border-collapse: collapse; font-size: .8rem;
  font-variant-numeric: tabular-nums;
}
th, td { padding: .3rem .36rem; text-align: right; white-space: nowrap; }
thead th { vertical-align: bottom; color: var(--quiet); font-weight: 600; }
thead tr:last-child > * { border-bottom: 1px solid var(--ink); }
thead th[rowspan] {
  border-bottom: 1px solid var(--ink); white-space: normal;
}
th[scope="colgroup"] {
  text-align: center; border-bottom: 1px solid var(--line);
}
tbody tr { border-bottom: 1px solid var(--line); }
tbody td { vertical-align: top; }
th[scope="row"], thead tr:first-child > th:first-child {
  position: sticky; left: 0; background: var(--paper); text-align: left;
  min-width: 6rem; max-width: 16rem; white-space: normal;
  overflow-wrap: break-word;
}
th[scope="row"] { vertical-align: top; }
td.value {
  text-align: left; white-space: normal; min-width: 7rem; max-width: 24rem;
  overflow-wrap: anywhere;
}
th.value { text-align: left; }
.best { background: var(--best); padding: 0 .2rem; margin: 0 -.2rem; }
.spread { display: block; font-size: .8em; color: var(--quiet); }
.theirs > * { color: var(--quiet); font-style: italic; font-weight: 400; }
.notes { margin: .5rem 0 0; padding-left: 1.1rem; }
.notes { color: var(--quiet); font-size: .85rem; max-width: 60rem; }
.picture .scroll {
  background: #ffffff; border: 1px solid var(--line); border-radius: 6px;
}
.picture img {
  display: block; max-width: 100%; min-width: 34rem; height: auto;
  margin: 0 auto; padding: .5rem;
}
.picture figcaption { margin: .4rem 0 0; }
article { padding-bottom: .5rem; }
dl {
  display: grid; grid-template-columns: max-content minmax(0, 1fr);
  gap: .15rem 1rem; margin: .5rem 0; font-size: .9rem;
}
dt { color: var(--quiet); }
dd { margin: 0; }
pre {
  margin: .4rem 0 .8rem; padding: .6rem .8rem;
  white-space: pre-wrap; overflow-wrap: anywhere;
  background: var(--panel); border-radius: 6px; font-size: .82rem;
}
p { margin: .5rem 0; }
.quiet { color: var(--quiet); font-size: .9rem; max-width: 60rem; }
details { margin: .4rem 0; }
summary { cursor: pointer; color: var(--accent); padding: .25rem 0; }
mark { background: var(--mark); color: inherit; padding: 0 .2rem; }
.warning { border-left: 4px solid var(--accent); padding-left: .7rem; }
@media (min-width: 60rem) {
  dl {
    grid-template-columns: repeat(2, max-content minmax(0, 1fr));
  }
}
@media (max-width: 40rem) {
  th[scope="row"], thead tr:first-child > th:first-child {
    min-width: 5rem; max-width: 7rem; overflow-wrap: anywhere;
  }
}
@media print {
  body { max-width: none; }
  .scroll { overflow: visible; }
  details::details-content { content-visibility: visible; }
}
"""
