"""How a wide table looks: as text, Markdown, LaTeX or HTML.

A table is a row per method and a column per test set, in the layout of the
paper's poster. What stands in it is decided elsewhere; see `corruption_tables`
and `seed_tables`.
"""

import html
import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

_ZERO_WIDTH_SPACE = '\u200b'
EN_DASH = '\u2013'  # of a range


class Cell(NamedTuple):
  """One figure.

  Attributes:
    text: as it is printed; '-' for none. A range has an `EN_DASH`.
    best: of its column.
    spread: the standard deviation, or ''.
    remark: what it is of, or ''.
  """

  text: str
  best: bool = False
  spread: str = ''
  remark: str = ''


class Column(NamedTuple):
  """One column: the group that it stands under ('' for none), head, cells."""

  group: str
  head: str
  cells: Sequence[Cell]


class Table(NamedTuple):
  """A table.

  Attributes:
    title: one sentence.
    names: of the rows.
    columns: as many cells in each as there are names.
    notes: a sentence each.
    theirs: how many of the rows, the last ones, are other people's figures:
      they are shown in grey, or in brackets.
  """

  title: str
  names: Sequence[str]
  columns: Sequence[Column]
  notes: Sequence[str]
  theirs: int = 0

  def is_theirs(self, row: int) -> bool:
    return row >= len(self.names) - self.theirs


def render_text(table: Table) -> str:
  """Aligned columns; the best are starred, other people's are bracketed."""

  def show(cell, theirs):
    text = f'*{_in_one_line(cell)}' if cell.best else _in_one_line(cell)
    return f'[{text}]' if theirs and cell.text != '-' else text

  names = [
    f'[{name}]' if table.is_theirs(row) else name
    for row, name in enumerate(table.names)
  ]
  texts = [
    [show(cell, table.is_theirs(row)) for row, cell in enumerate(column.cells)]
    for column in table.columns
  ]
  label_width = max(map(len, ['method', *names]))
  widths = [
    max(len(column.head), *map(len, texts))
    for column, texts in zip(table.columns, texts, strict=True)
  ]
  heading = [' ' * label_width]
  for group, first, count in groups(table.columns):
    width = sum(widths[first : first + count]) + 2 * (count - 1)
    heading.append(f' {group} '.center(width, '-') if group else ' ' * width)
  lines = ['  '.join(heading).rstrip()]
  for label, row in zip(
    ['method', *names],
    zip(
      *([c.head, *t] for c, t in zip(table.columns, texts, strict=True)),
      strict=True,
    ),
    strict=True,
  ):
    figures = (t.rjust(w) for t, w in zip(row, widths, strict=True))
    lines.append('  '.join([label.ljust(label_width), *figures]).rstrip())
  lines.insert(2, '-' * max(map(len, lines)))
  return '\n'.join([table.title, '', *lines, '', *table.notes])


def render_markdown(table: Table) -> str:
  """Markdown has one row of heads: the groups; the names are the first row."""
  heads = ['']
  for group, _, count in groups(table.columns):
    heads += [group, *([''] * (count - 1))]
  rows = [['method', *(column.head for column in table.columns)]]
  for index, name in enumerate(table.names):
    name = escape_markdown(name)
    cells = [column.cells[index] for column in table.columns]
    if table.is_theirs(index):
      rows.append(
        [
          f'*[{name}]*',
          *(c.text if c.text == '-' else f'*[{c.text}]*' for c in cells),
        ]
      )
    else:
      rows.append(
        [
          name,
          *(
            _in_one_line(c._replace(text=f'**{c.text}**' if c.best else c.text))
            for c in cells
          ),
        ]
      )
  return join_markdown(table.title, heads, rows, table.notes)


def join_markdown(
  title: str,
  heads: Iterable[str],
  rows: Iterable[Sequence[str]],
  notes: Iterable[str],
) -> str:
  """A title, a table whose cells are Markdown already, and a list of notes."""
  heads = list(heads)
  lines = [heads, ['---', *(['---:'] * (len(heads) - 1))], *rows]
  table = '\n'.join(f'| {" | ".join(line)} |' for line in lines)
  notes = '\n'.join(f'- {escape_markdown(note)}' for note in notes)
  return f'{escape_markdown(title)}\n\n{table}\n\n{notes}'


def render_latex(table: Table) -> str:
  """A `table*` that is as wide as the text at most.

  Heads stand upright, so that the columns are as narrow as their figures; a
  spread stands under its figure.
  """
  heading, rules = [''], []
  for group, first, count in groups(table.columns):
    if not group:
      heading += [''] * count
    else:  # columns count from 1, and the first holds the methods
      heading.append(f'\\multicolumn{{{count}}}{{c}}{{{group}}}')
      rules.append(f'\\cmidrule(lr){{{first + 2}-{first + count + 1}}}')
  heads = [
    'method',
    *(f'\\rotatebox{{90}}{{{escape_latex(c.head)}}}' for c in table.columns),
  ]
  rows = []
  for index, name in enumerate(table.names):
    theirs = table.is_theirs(index)
    if theirs and index and not table.is_theirs(index - 1):
      rows.append('\\midrule')
    cells = [column.cells[index] for column in table.columns]
    row = [escape_latex(name), *map(_latex_cell, cells)]
    if theirs:
      row = [f'\\textcolor{{gray}}{{{text}}}' for text in row]
    rows.append(f'{" & ".join(row)} \\\\')
    if any(cell.spread for cell in cells):
      # Closer to the figures than to the next row.
      rows[-1] += '[-2pt]'
      spreads = (
        f'\\tiny$\\pm${cell.spread}' if cell.spread else '' for cell in cells
      )
      rows.append(f' & {" & ".join(spreads)} \\\\[1pt]')
  sentences = [_sentence(note) for note in [table.title, *table.notes]]
  packages = 'booktabs,graphicx' + (',xcolor' if table.theirs else '')
  return '\n'.join(
    [
      f'% needs \\usepackage{{{packages}}}',
      '\\begin{table*}',
      '\\centering',
      '\\scriptsize',
      '\\setlength{\\tabcolsep}{2.5pt}',
      '\\setlength{\\belowcaptionskip}{4pt}',
      f'\\caption{{{escape_latex(" ".join(sentences))}}}',
      # Shrunk where it is still too wide, never enlarged.
      '\\resizebox{\\ifdim\\width>\\linewidth\\linewidth\\else\\width\\fi}{!}{'
      f'\\begin{{tabular}}{{l{"r" * len(table.columns)}}}',
      '\\toprule',
      f'{" & ".join(heading)} \\\\',
      ' '.join(rules),
      f'{" & ".join(heads)} \\\\',
      '\\midrule',
      *rows,
      '\\bottomrule',
      '\\end{tabular}}',
      '\\end{table*}',
    ]
  )


def render_html(table: Table) -> str:
  """A `figure`: the title, the table in a box that scrolls, the notes.

  Classes: `scroll` the box, `best` (inside `strong`), `spread`, `theirs` a row
  of other people's figures, `notes`. Everything is escaped.
  """
  title = html.escape(table.title)
  columns = table.columns
  spans = ['<colgroup><col></colgroup>']
  first_line, second_line = [], []
  for group, first, count in groups(columns):
    spans.append(f'<colgroup span="{count}"></colgroup>')
    if group:
      first_line.append(
        f'<th scope="colgroup" colspan="{count}">{html.escape(group)}</th>'
      )
    for column in columns[first : first + count]:
      head = html.escape(column.head)
      if group:
        second_line.append(f'<th scope="col">{head}</th>')
      else:
        first_line.append(f'<th scope="col" rowspan="2">{head}</th>')
  rows = []
  for index, name in enumerate(table.names):
    theirs = table.is_theirs(index)
    cells = (
      f'<td>{_html_cell(column.cells[index])}</td>' for column in columns
    )
    rows += [
      '<tr class="theirs">' if theirs else '<tr>',
      f'<th scope="row">{breakable(name)}</th>',
      *cells,
      '</tr>',
    ]
  notes = [f'<li>{html.escape(_sentence(note))}</li>' for note in table.notes]
  return '\n'.join(
    [
      '<figure class="table">',
      f'<figcaption>{title}</figcaption>',
      f'<div class="scroll" role="region" tabindex="0" aria-label="{title}">',
      '<table>',
      *spans,
      '<thead>',
      '<tr><th scope="col" rowspan="2">method</th>',
      *first_line,
      '</tr>',
      f'<tr>{"".join(second_line)}</tr>',
      '</thead>',
      '<tbody>',
      *rows,
      '</tbody>',
      '</table>',
      '</div>',
      *(['<ul class="notes">', *notes, '</ul>'] if notes else []),
      '</figure>',
    ]
  )


def breakable(name: str) -> str:
  """Escapes a name for HTML; a line may end after its punctuation."""
  return html.escape(
    re.sub(r'([_.,/+=])(?=\w)', f'\\1{_ZERO_WIDTH_SPACE}', name)
  ).replace(_ZERO_WIDTH_SPACE, '<wbr>')


RENDERERS = {
  'text': render_text,
  'markdown': render_markdown,
  'latex': render_latex,
  'html': render_html,
}


def groups(columns: Sequence[Column]) -> list[tuple[str, int, int]]:
  """(group, first column, number of columns) of each run of one group."""
  spans = []
  for index, column in enumerate(columns):
    if spans and spans[-1][0] == column.group:
      spans[-1][2] += 1
    else:
      spans.append([column.group, index, 1])
  return [tuple(span) for span in spans]


def align(
  heads: Sequence[str], sections: Sequence[Sequence[Sequence[str]]]
) -> str:
  """Columns aligned under heads of several lines; a row of one is a heading."""
  split = [head.split('\n') for head in heads]
  height = max(map(len, split))
  split = [[''] * (height - len(lines)) + lines for lines in split]
  top = [list(line) for line in zip(*split, strict=True)]
  rows = [row for section in sections for row in section]
  widths = [
    max(len(row[i]) for row in [*top, *rows] if len(row) > 1)
    for i in range(len(heads))
  ]

  def line(row):
    figures = (
      cell.rjust(width)
      for cell, width in zip(row[1:], widths[1:], strict=False)
    )
    return '  '.join([row[0].ljust(widths[0]), *figures]).rstrip()

  rule = '-' * (sum(widths) + 2 * (len(widths) - 1))
  lines = [line(row) for row in top]
  for section in sections:
    lines += [rule, *map(line, section)]
  return '\n'.join(lines)


def escape_markdown(text: str) -> str:
  for letter in '\\|*<':
    text = text.replace(letter, f'\\{letter}')
  return text


def escape_latex(text: str) -> str:
  special = {
    '\\': '\\textbackslash{}',
    '~': '\\textasciitilde{}',
    '^': '\\textasciicircum{}',
    '<': '\\textless{}',
    '>': '\\textgreater{}',
    '|': '\\textbar{}',
    '"': "''",
    '±': '$\\pm$',
    **{letter: f'\\{letter}' for letter in '&%$#_{}'},
  }
  text = ''.join(special.get(letter, letter) for letter in text)
  return text.replace('--', '-{}-')  # of an option, not a dash


def _in_one_line(cell):
  text = f'{cell.text} ± {cell.spread}' if cell.spread else cell.text
  return f'{text} ({cell.remark})' if cell.remark else text


def _latex_cell(cell):
  text = f'{cell.text} ({cell.remark})' if cell.remark else cell.text
  # A hyphen would be read as a short minus.
  text = text.replace('-', '--' if text == '-' else '$-$').replace(
    EN_DASH, '--'
  )
  return f'\\textbf{{{text}}}' if cell.best else text


def _html_cell(cell):
  text = (
    EN_DASH if cell.text == '-' else cell.text.replace('-', '\u2212')
  )  # minus
  text = html.escape(text)
  if cell.best:
    text = f'<strong class="best">{text}</strong>'
  if cell.spread:
    text += f' <span class="spread">± {html.escape(cell.spread)}</span>'
  if cell.remark:
    text += f' <span class="spread">({html.escape(cell.remark)})</span>'
  return text


def _sentence(text):
  return text if text.endswith('.') else f'{text}.'
