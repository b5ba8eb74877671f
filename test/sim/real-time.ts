// While a simulation runs, real time and real chance are out of reach: code that asks for them would make a seed's run
// differ from the last, so it gets an error that says what to use instead.

type Restore = () => void;

function ban<T extends object>(owner: T, name: keyof T & string): Restore {
  const original = Object.getOwnPropertyDescriptor(owner, name);
  Object.defineProperty(owner, name, {
    configurable: true,
    writable: true,
    value: () => {
      throw new Error(`simulated code called ${name}; it must use the clock it was given, and no chance of its own`);
    },
  });
  return () => {
    if (original === undefined) delete owner[name];
    else Object.defineProperty(owner, name, original);
  };
}

/** Gives the function that ends the ban. */
export function banRealTime(): Restore {
  const restores = [
    ban(Date, 'now'),
    ban(Math, 'random'),
    ban(performance, 'now'),
    ban(globalThis, 'setTimeout'),
    ban(globalThis, 'setInterval'),
    ban(globalThis, 'setImmediate'),
  ];
  return () => {
    for (const restore of restores) restore();
  };
}
