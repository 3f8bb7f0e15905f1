// Ask, show the answer as it comes, then what it rests on. Answers and documents are untrusted: they only ever become
// text nodes, and links lead nowhere but to the cards on this page.
"use strict";

const $ = (id) => document.getElementById(id);
const CITATION = /[[［【]\s*(?:notes?|passages?|资料|来源)?\s*(\d{1,3}(?:\s*[,，、;；]\s*\d{1,3})*)\s*[\]］】]/gi;
let running = null;
let feedback = null; // what the service says of it: days and max_characters; null: it keeps none
let answered = null; // the answer that feedback is on: its id and text

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

function headers() {
  const key = $("key").value;
  return { "Content-Type": "application/json", ...(key && { Authorization: `Bearer ${key}` }) };
}

function hear(id, text) {
  answered = id && { id, text };
  $("feedback").hidden = !feedback || !answered;
  $("better").hidden = true;
  $("thanks").textContent = $("reason").value = "";
  $("correction").value = text;
  for (const name of ["up", "down"]) $(name).setAttribute("aria-pressed", "false");
}

// A thumb counts at once; the form sends it again with its words, which then stand in its place.
async function say(rating, words = {}) {
  const { id } = answered;
  const buttons = [$("up"), $("down"), $("send")];
  for (const button of buttons) button.disabled = true;
  let wrong = null;
  try {
    const body = JSON.stringify({ answer: id, rating, ...words });
    const response = await fetch("/v1/feedback", { method: "POST", headers: headers(), body });
    if (!response.ok) throw failed(await response.json().catch(() => null), response.status);
  } catch (error) {
    wrong = error.message;
  }
  for (const button of buttons) button.disabled = false;
  if (answered?.id !== id) return;
  const asking = rating === "down" && !("reason" in words);
  $("thanks").textContent = wrong ?? (asking ? "Noted. 已记下。" : "Thank you. 谢谢！");
  $("thanks").className = wrong === null ? "quiet" : "error";
  if (wrong !== null) return;
  for (const name of ["up", "down"]) $(name).setAttribute("aria-pressed", String(name === rating));
  $("better").hidden = !asking;
  $(asking ? "reason" : rating).focus();
}

function thumb(rating) {
  if ($(rating).getAttribute("aria-pressed") === "false") say(rating);
  else if (rating === "down") $("better").hidden = !$("better").hidden; // a second time would take the words back
}

function correct(event) {
  event.preventDefault();
  const correction = $("correction").value.trim();
  say("down", { reason: $("reason").value.trim(), correction: correction === answered.text.trim() ? null : correction });
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
  hear(null, "");
  let answer = "";
  try {
    const body = JSON.stringify({ messages: [{ role: "user", content: question }], stream: true, sources: "fields" });
    const response = await fetch("/v1/chat/completions", { method: "POST", headers: headers(), body, signal: running.signal });
    if (!response.ok) throw failed(await response.json().catch(() => null), response.status);
    let complete = false, id = null;
    for await (const data of events(response)) {
      if (data === "[DONE]") { complete = true; break; }
      const chunk = JSON.parse(data);
      if (chunk.error) throw failed(chunk);
      id = chunk.id;
      answer += chunk.choices[0]?.delta.content ?? "";
      show(answer, false);
      if (chunk.nightshift) finish(answer, chunk.nightshift);
    }
    if (!complete) throw new Error("the answer broke off");
    $("status").textContent = "";
    hear(id, answer);
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
$("better").addEventListener("submit", correct);
$("up").addEventListener("click", () => thumb("up"));
$("down").addEventListener("click", () => thumb("down"));
$("stop").addEventListener("click", () => running?.abort());
$("question").addEventListener("keydown", (event) => {
  // Enter that picks a word of an input method is no question yet
  if (event.key === "Enter" && !event.shiftKey && !event.isComposing) submit(event);
});

fetch("/health").then((response) => response.json()).then((health) => {
  $("name").textContent = document.title = health.name;
  $("release").textContent = `release ${health.release}`;
  $("key-row").hidden = !health.key;
  feedback = health.feedback;
  if (feedback) {
    $("kept").textContent = `Questions and answers are kept for ${feedback.days} days, those marked wrong perhaps longer, to learn `
      + "from. Personal data is masked where it is recognised; please leave it out.";
    $("kept-zh").textContent = `问题和回答保留${feedback.days}天；标为不对的可能保留更久，用于改进。个人信息会尽量遮盖，请不要填写。`;
    $("kept").hidden = $("kept-zh").hidden = false;
    $("reason").maxLength = $("correction").maxLength = feedback.max_characters;
  }
  // page#q=a%20question asks at once: a question can be sent as a link
  const given = new URLSearchParams(location.hash.slice(1)).get("q");
  if (given) {
    $("question").value = given;
    if (!health.key) ask(given.trim());
  }
}).catch(() => { $("status").textContent = "the service does not answer"; });
