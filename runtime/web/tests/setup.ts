/** Lets the Python runtime write what the tests compare with; `PYTHON` names the interpreter that has it. */

import { execFileSync } from "node:child_process";
import { existsSync, mkdirSync } from "node:fs";
import { join } from "node:path";

const PACKAGE = join(import.meta.dirname, "..");
const ROOT = join(PACKAGE, "..", "..");

export const FIXTURES = join(PACKAGE, "out", "fixtures.json");

export default function setup(): void {
  const own = join(ROOT, ".venv", "bin", "python");
  const python = process.env.PYTHON ?? (existsSync(own) ? own : "python3");
  mkdirSync(join(PACKAGE, "out"), { recursive: true });
  execFileSync(python, ["-m", "tests.web.fixtures", FIXTURES], { cwd: ROOT, stdio: "inherit" });
}
