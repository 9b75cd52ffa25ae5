/** The page of `sam-edge serve` and `sam-edge site`: the photo page, or the annotation tool. */

import { render } from "preact";
import { AnnotatePage } from "./annotate/page.tsx";
import { lineOf } from "./errors.ts";
import { isolate } from "./isolation.ts";
import { PhotoPage } from "./photo/page.tsx";
import { readSession } from "./session.ts";
import "./style.css";
import { followTheme } from "./ui/theme.tsx";

async function start(root: HTMLElement): Promise<void> {
  followTheme();
  try {
    const session = await readSession();
    if (!session.server && (await isolate())) return;
    render(session.mode === "annotate" ? <AnnotatePage session={session} /> : <PhotoPage session={session} />, root);
  } catch (error) {
    render(<Failure message={lineOf(error)} />, root);
  }
}

function Failure({ message }: { readonly message: string }) {
  return (
    <main class="failure">
      <h1>sam-edge</h1>
      <p role="alert">{message}</p>
    </main>
  );
}

void start(document.getElementById("page")!);
