// Tables and lists for people: aligned, without lines, one row a line. Pure.

export interface Column<Row> {
  title: string;
  /** Numbers and sizes stand at the right. */
  right?: boolean;
  cell(row: Row): string;
}

/** What came from elsewhere must not move the cursor or change colours. */
function printable(text: string): string {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what is looked for.
  return text.replaceAll(/[\u0000-\u001f\u007f-\u009f]+/g, ' ');
}

function widthOf(text: string): number {
  return [...text].length;
}

function padded(text: string, width: number, right: boolean): string {
  const space = ' '.repeat(Math.max(0, width - widthOf(text)));
  return right ? space + text : text + space;
}

/** Ends with a newline; without rows it is the titles alone. */
export function table<Row>(rows: readonly Row[], columns: readonly Column<Row>[]): string {
  const cells = [columns.map(({ title }) => title), ...rows.map((row) => columns.map(({ cell }) => printable(cell(row)) || '-'))];
  const widths = columns.map((_, i) => Math.max(...cells.map((line) => widthOf(line[i]))));
  return cells
    .map((line) =>
      line
        .map((text, i) => padded(text, widths[i], columns[i].right === true))
        .join('  ')
        .trimEnd(),
    )
    .map((line) => `${line}\n`)
    .join('');
}

/** Names and values, one pair a line; pairs without a value are left out. */
export function list(pairs: readonly (readonly [string, string | null])[]): string {
  const shown = pairs.filter(([, value]) => value !== null && value !== '');
  const width = Math.max(0, ...shown.map(([name]) => widthOf(name)));
  return shown.map(([name, value]) => `${padded(name, width, false)}  ${printable(value!)}\n`).join('');
}
