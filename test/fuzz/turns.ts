// The ends of turns under the fuzzer's control: what a machine leaves to the microtask queue runs when the target says so, all
// at once and bounded, so that a run needs no real turns and one that never comes to rest is an error.

const TASKS_MAX = 200_000;

export class Turns {
  readonly #tasks: (() => void)[] = [];
  readonly #real = globalThis.queueMicrotask;

  /** Runs `body` with the queue taken over. */
  static during<T>(body: (turns: Turns) => T): T {
    const turns = new Turns();
    globalThis.queueMicrotask = (task) => void turns.#tasks.push(task);
    let result: T;
    try {
      result = body(turns);
    } catch (error) {
      turns.#giveBack();
      throw error;
    }
    if (result instanceof Promise) return result.finally(() => turns.#giveBack()) as T;
    turns.#giveBack();
    return result;
  }

  /** Runs what waits, and what that leaves behind, until there is nothing. */
  settle(): void {
    const tasks = this.#tasks;
    for (let done = 0; done < tasks.length; done += 1) {
      if (done > TASKS_MAX) throw new Error(`no rest after ${TASKS_MAX} turns`);
      tasks[done]();
    }
    tasks.length = 0;
  }

  #giveBack(): void {
    globalThis.queueMicrotask = this.#real;
  }
}
