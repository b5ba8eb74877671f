// Counts as people say them: "1 node", "3 nodes", "1 policy", "2 policies".

/** `many` where an s is not enough: plural(2, 'copy', 'copies'). */
export function plural(count: number, one: string, many = `${one}s`): string {
  return `${count} ${count === 1 ? one : many}`;
}
