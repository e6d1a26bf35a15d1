// When to ask again: one question at a time, not more often than its pace, and never too few: what changes while an answer
// is under way is asked for after it. A slow answer is waited for, or a busy mesh would never be seen.

export class Questions {
  private readonly cancel = new AbortController();
  private timer: ReturnType<typeof setTimeout> | undefined;
  private asking = false;
  private missed = false;
  private last = -Infinity;

  constructor(
    /** Between two questions, at least, milliseconds. */
    private readonly pace: number,
    private readonly ask: (signal: AbortSignal) => Promise<void>,
  ) {}

  /** There may be another answer. */
  changed(): void {
    if (this.asking) {
      this.missed = true;
    } else if (this.timer === undefined && !this.cancel.signal.aborted) {
      this.timer = setTimeout(() => void this.run(), Math.max(0, this.last + this.pace - Date.now()));
    }
  }

  /** Nobody wants an answer any more. */
  end(): void {
    clearTimeout(this.timer);
    this.cancel.abort();
  }

  private async run(): Promise<void> {
    this.timer = undefined;
    [this.asking, this.missed, this.last] = [true, false, Date.now()];
    await this.ask(this.cancel.signal);
    this.asking = false;
    if (this.missed) this.changed();
  }
}
