import { describe, expect, it } from "vitest";
import { fromBase64, toBase64 } from "../../src/engine/api.ts";
import { Pace } from "../../src/engine/pace.ts";
import { clockText, Clock } from "../../src/annotate/clock.ts";
import { lineOf } from "../../src/errors.ts";
import { parseSession } from "../../src/session.ts";
import { SESSION } from "./session.ts";

describe("the pace", () => {
  it("asks one at a time, the newest hover only, and clicks first", async () => {
    const asked: string[] = [];
    const open: (() => void)[] = [];
    const ask = (name: string) => (): Promise<void> => {
      asked.push(name);
      return new Promise((resolve) => open.push(resolve));
    };
    const answered = async (): Promise<void> => {
      open.shift()!();
      await new Promise((resolve) => setTimeout(resolve));
    };
    const pace = new Pace();
    for (let i = 0; i < 100; i++) pace.ask("hover", ask(`hover ${i}`));
    expect(asked).toEqual(["hover 0"]);
    pace.ask("click", ask("click 1"));
    pace.ask("click", ask("click 2"));
    pace.ask("hover", ask("hover 100"));
    await answered();
    expect(asked).toEqual(["hover 0", "click 2"]);
    await answered();
    await answered();
    expect(asked).toEqual(["hover 0", "click 2", "hover 100"]);
    expect(pace.busy).toBe(false);
  });

  it("goes on after an error, and drops what waits", async () => {
    const asked: string[] = [];
    const pace = new Pace();
    pace.ask("click", () => {
      asked.push("fails");
      return Promise.reject(new Error("no"));
    });
    pace.ask("hover", () => Promise.resolve(void asked.push("dropped")));
    pace.drop("hover");
    await new Promise((resolve) => setTimeout(resolve));
    pace.ask("hover", () => Promise.resolve(void asked.push("later")));
    await new Promise((resolve) => setTimeout(resolve));
    expect(asked).toEqual(["fails", "later"]);
  });
});

describe("logits", () => {
  it("come back from base64 as they were", () => {
    const data = Float32Array.from({ length: 10_000 }, (_, i) => Math.sin(i) * 30);
    expect(fromBase64(toBase64(data), data.length)).toEqual(data);
    expect(() => fromBase64(toBase64(data), 7)).toThrow(/wrong size/);
  });
});

describe("the clock", () => {
  it("counts while it runs", () => {
    let now = 1000;
    const clock = new Clock(() => now);
    clock.start();
    now += 2500;
    clock.pause();
    now += 9999;
    clock.start();
    now += 500;
    expect([clock.seconds, clock.running]).toEqual([3, true]);
    clock.reset();
    expect([clock.seconds, clock.running]).toEqual([0, false]);
    clock.reset(12);
    clock.start();
    now += 1000;
    expect(clock.seconds).toBe(13);
    expect([clockText(5.9), clockText(65), clockText(3600)]).toEqual(["0:05", "1:05", "60:00"]);
  });
});

describe("messages", () => {
  it("are one line of bounded length", () => {
    expect(lineOf(new Error("a\u001bb\nc"))).toBe("a b");
    expect(lineOf("x".repeat(999))).toHaveLength(300);
  });
});

describe("the session", () => {
  const session = {
    ...SESSION,
    server: true,
    mode: "annotate",
    engine: "server",
    annotate: {
      lease_seconds: 120,
      heartbeat_seconds: 30,
      mask_seconds: 30,
      photos: 5,
      existing: true,
      names: ["cat"],
    },
  };

  it("is read with its fields", () => {
    const read = parseSession(session);
    expect(read.bundles[0]).toMatchObject({
      name: "nano",
      inputSide: 1024,
      engines: ["browser", "server"],
      words: ["cat"],
    });
    expect(read.annotate).toEqual({
      leaseSeconds: 120,
      heartbeatSeconds: 30,
      maskSeconds: 30,
      photos: 5,
      existing: true,
      names: ["cat"],
    });
    expect(parseSession({ ...session, mode: "annotate", annotate: null }).mode).toBe("photo");
  });

  it("is refused when it is broken or of another API", () => {
    expect(() => parseSession({ ...session, api: 2 })).toThrow(/API 2/);
    expect(() => parseSession({ ...session, bundles: [] })).toThrow(/no bundle/);
    expect(() => parseSession({ ...session, engine: "gpu" })).toThrow(/cannot be read/);
    expect(() => parseSession([])).toThrow(/cannot be read/);
  });
});
