// Ask, show the answer as it comes, then what it rests on. Answers and documents are untrusted: they only ever become
// text nodes, and links lead nowhere but to the cards on this page.
"use strict";

const $ = (id) => document.getElementById(id);
const CITATION = /[[［【]\s*(?:notes?|passages?|资料|来源)?\s*(\d{1,3}(?:\s*[,，、;；]\s*\d{1,3})*)\s*[\]］】]/gi;
let running = null;

function element(tag, text, name) {
  const made = document.createElement(tag);
  if (text) made.textContent = text;
  if (name) made.className = name;
  return made;
}

function show(answer, linked) {
  const box = $("answer");
  box.replaceChildren();
  let end = 0;
  for (const match of linked ? answer.matchAll(CITATION) : []) {
    box.append(answer.slice(end, match.index));
    for (const number of match[1].match(/\d+/g)) {
      const link = element("a", `[${Number(number)}]`, "cite");
      link.href = `#source-${Number(number)}`;
      box.append(link);
    }
    end = match.index + match[0].length;
  }
  box.append(answer.slice(end));
}

function card(source) {
  const made = element("li", "", source.cited ? "cited" : "");
  made.id = `source-${source.number}`;
  const head = element("div", "", "head");
  head.append(element("span", String(source.number), "number"));
  head.append(element("span", source.source + (source.page === null ? "" : `, page ${source.page}`), "source"));
  if (source.cited) head.append(element("span", "cited", "tag"));
  made.append(head);
  if (source.heading) made.append(element("div", source.heading, "heading"));
  made.append(element("div", source.text, "passage"));
  return made;
}

function finish(answer, facts) {
  $("answer").lang = facts.language === "zh" ? "zh-Hans" : "en";
  show(answer, true);
  $("sources").replaceChildren(...facts.sources.map(card));
  $("sources-title").textContent = facts.abstained ? "What was found" : "Sources";
  $("sources-title").hidden = facts.sources.length === 0;
  const notes = [];
  if (facts.abstained) notes.push("The documents do not say.");
  if (facts.invented.length) notes.push(`It named ${facts.invented.map((n) => `[${n}]`).join(", ")}, which it was not shown; taken out.`);
  $("notes").textContent = notes.join(" ");
  $("notes").hidden = notes.length === 0;
  $("release").textContent = `release ${facts.release}`;
}

async function* events(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let held = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    held += value;
    const parts = held.split("\n\n");
    held = parts.pop();
    for (const part of parts) if (part.startsWith("data: ")) yield part.slice(6);
  }
}

function failed(body, status) {
  return new Error(body?.error?.message ?? `the service answered ${status}`);
}

async function ask(question) {
  running = new AbortController();
  $("ask").disabled = true;
  $("stop").hidden = false;
  $("result").hidden = false;
  $("status").className = "quiet";
  $("status").textContent = "looking …";
  $("answer").lang = "";
  $("sources").replaceChildren();
  $("sources-title").hidden = $("notes").hidden = true;
  show("", false);
  let answer = "";
  try {
    const headers = { "Content-Type": "application/json" };
    if ($("key").value) headers.Authorization = `Bearer ${$("key").value}`;
    const body = JSON.stringify({ messages: [{ role: "user", content: question }], stream: true, sources: "fields" });
    const response = await fetch("/v1/chat/completions", { method: "POST", headers, body, signal: running.signal });
    if (!response.ok) throw failed(await response.json().catch(() => null), response.status);
    let complete = false;
    for await (const data of events(response)) {
      if (data === "[DONE]") { complete = true; break; }
      const chunk = JSON.parse(data);
      if (chunk.error) throw failed(chunk);
      answer += chunk.choices[0]?.delta.content ?? "";
      show(answer, false);
      if (chunk.nightshift) finish(answer, chunk.nightshift);
    }
    if (!complete) throw new Error("the answer broke off");
    $("status").textContent = "";
    document.body.dataset.state = "answered";
  } catch (error) {
    $("status").className = "error";
    $("status").textContent = error.name === "AbortError" ? "stopped" : error.message;
    document.body.dataset.state = "failed";
  } finally {
    running = null;
    $("ask").disabled = false;
    $("stop").hidden = true;
  }
}

function submit(event) {
  event.preventDefault();
  const question = $("question").value.trim();
  if (question && !running) ask(question);
}

$("form").addEventListener("submit", submit);
$("stop").addEventListener("click", () => running?.abort());
$("question").addEventListener("keydown", (event) => {
  // Enter that picks a word of an input method is no question yet
  if (event.key === "Enter" && !event.shiftKey && !event.isComposing) submit(event);
});

fetch("/health").then((response) => response.json()).then((health) => {
  $("name").textContent = document.title = health.name;
  $("release").textContent = `release ${health.release}`;
  $("key-row").hidden = !health.key;
  // page#q=a%20question asks at once: a question can be sent as a link
  const given = new URLSearchParams(location.hash.slice(1)).get("q");
  if (given) {
    $("question").value = given;
    if (!health.key) ask(given.trim());
  }
}).catch(() => { $("status").textContent = "the service does not answer"; });
