/** A stopwatch that stands still while nobody looks at the page. */

export class Clock {
  readonly #now: () => number;
  #before = 0;
  #since: number | null = null;

  /** `now` gives milliseconds. */
  constructor(now: () => number = () => performance.now()) {
    this.#now = now;
  }

  get running(): boolean {
    return this.#since !== null;
  }

  /** Seconds that it ran. */
  get seconds(): number {
    return (this.#before + (this.#since === null ? 0 : this.#now() - this.#since)) / 1000;
  }

  start(): void {
    this.#since ??= this.#now();
  }

  pause(): void {
    this.#before = this.seconds * 1000;
    this.#since = null;
  }

  /** Stands still, at zero or at the seconds of an earlier watch. */
  reset(seconds = 0): void {
    this.#before = 1000 * seconds;
    this.#since = null;
  }
}

/** "1:05". */
export function clockText(seconds: number): string {
  const whole = Math.floor(seconds);
  return `${Math.floor(whole / 60)}:${String(whole % 60).padStart(2, "0")}`;
}
