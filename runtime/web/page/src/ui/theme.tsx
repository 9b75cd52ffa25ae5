/** Dark and light: what the system prefers, until the person switches. */

import { effect, signal } from "@preact/signals";
import { read, write } from "../stored.ts";
import { IconButton } from "./icons.tsx";

export type Theme = "auto" | "light" | "dark";

const STORED = "sam-edge-theme";
const NEXT: Readonly<Record<Theme, Theme>> = { auto: "light", light: "dark", dark: "auto" };
const ICONS = { auto: "auto", light: "sun", dark: "moon" } as const;
const TITLES = { auto: "as the system", light: "light", dark: "dark" } as const;

export const theme = signal<Theme>(stored());

/** Sets `data-theme` of the document to light or dark from now on. */
export function followTheme(): void {
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const apply = (): void => {
    const wanted = theme.value;
    document.documentElement.dataset.theme = wanted === "auto" ? (dark.matches ? "dark" : "light") : wanted;
  };
  dark.addEventListener("change", apply);
  effect(apply);
}

export function ThemeButton() {
  const now = theme.value;
  return (
    <IconButton
      icon={ICONS[now]}
      label={`Colours: ${TITLES[now]}`}
      onClick={() => {
        theme.value = NEXT[now];
        store(theme.value);
      }}
    />
  );
}

function stored(): Theme {
  const value = read(STORED);
  return value === "light" || value === "dark" ? value : "auto";
}

function store(value: Theme): void {
  write(STORED, value);
}
