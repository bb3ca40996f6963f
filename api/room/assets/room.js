// Keeps the waiting page alive: joins, listens or polls, counts down between two answers, goes in.
// The page works without it. What it shows and says comes with the page: the elements, their states and the texts.

const RETRY_FIRST = 2000;
const RETRY_MOST = 60000;
const TIMEOUT = 15000;
const FIRST_EVENT = 10000;
const QUIET = 60000;
const STREAM_FAILURES = 3;
const SHORT_LIVED = 20000;
const LISTEN_AGAIN = 120000;
const RETURN = 5000;
const SEATS = 4;
const LATE_IS_NEWS = 60000;
const REASON_SHOWN = 60000;

const WITH_PLACE = new Set(["waiting", "ready", "full", "paused"]);
const PERHAPS_WITH_PLACE = new Set(["unavailable", "busy"]);
const GONE = new Set(["TOKEN_EXPIRED", "ALREADY_REDEEMED", "INVALID_TOKEN", "MISSING_TOKEN"]);

/** A wait as people read it; api/room/wait.py has the same rule for the first view. */
export function rounded(lowSeconds, highSeconds) {
  const low = lowSeconds / 60;
  const high = highSeconds / 60;
  if (high <= 1) return { unit: "minutes", low: 0, high: 1 };
  if (high <= 180) {
    const step = high < 20 ? 1 : high < 60 ? 5 : 10;
    return { unit: "minutes", low: Math.floor(low / step) * step, high: Math.ceil(high / step) * step };
  }
  const [unit, size] = high <= 48 * 60 ? ["hours", 60] : ["days", 1440];
  return { unit, low: Math.floor(low / size), high: Math.ceil(high / size) };
}

/** Texts with their numbers and plurals. */
export function speaker(texts) {
  const rules = new Intl.PluralRules(texts.lang);
  const number = (n) => {
    const digits = String(n);
    return digits.length < texts.thousands_from ? digits : digits.replace(/\B(?=(\d{3})+$)/g, texts.thousands);
  };
  const form = (forms, n) => forms[rules.select(n)] || forms.other;
  const fill = (text, n) => text.replace("{n}", n);
  const dashed = ({ low, high }) => (low === 0 || low === high ? number(high) : `${number(low)}–${number(high)}`);
  return {
    number,
    /** The wait in three parts (before, number, after), as a sentence, and in short for the tab. */
    wait(range) {
      const forms = texts[range.low === 0 ? `less_than_${range.unit}` : range.unit];
      const [before, after] = form(forms, range.high).split("{n}");
      const spoken =
        range.low === 0 || range.low === range.high
          ? number(range.high)
          : texts.range.replace("{low}", number(range.low)).replace("{high}", number(range.high));
      const short = fill(texts[`short_${range.unit}`], range.low === 0 ? `< ${number(range.high)}` : dashed(range));
      return { before, number: dashed(range), spoken, after, sentence: before + spoken + after, short };
    },
    ahead(people, approximate) {
      if (people === 0) return texts.next;
      return fill(form(approximate ? texts.ahead_about : texts.ahead, people), number(people));
    },
    place: (position, approximate) => (approximate ? fill(texts.place_about, number(position)) : number(position)),
  };
}

/** How far somebody has come, 0 to 1: what they have waited, of what they will have waited. */
export function progress(waitedMs, leftMs) {
  const left = Math.max(leftMs, 0);
  const whole = waitedMs + left;
  // Short of the end: only the door can say that it is open.
  return whole > 0 ? Math.min(waitedMs / whole, 0.98) : 0;
}

/**
 * What is told of a wait once an answer promises one of [low, high] s, if `promised` (a time in ms, or null) was the
 * latest end that has been told. The promise is kept while the new range reaches down to it. Times are in ms.
 */
export function renewed(promised, [lowSeconds, highSeconds], now) {
  const low = now + lowSeconds * 1000;
  const high = now + highSeconds * 1000;
  const kept = Math.min(promised ?? high, high);
  if (low <= kept) return { low, high: kept, promised: kept, late: false };
  // A few seconds more are no news, unless they add up.
  const late = high - kept > LATE_IS_NEWS;
  return { low, high, promised: late ? high : kept, late };
}

/** When to ask again after `failures` failures in a row, in ms; not before Retry-After. */
export function backOff(failures, retryAfterMs, random = Math.random) {
  const most = Math.min(RETRY_FIRST * 2 ** (failures - 1), RETRY_MOST);
  return Math.max(most * (0.5 + random() / 2), retryAfterMs * (1 + random() / 4));
}

/** An answer that tells nothing: there was none, or it is a failure of ours. */
class Failure extends Error {
  constructor(code, retryAfter) {
    super(code);
    this.code = code;
    this.retryAfter = retryAfter;
  }
}

class Room {
  constructor(main) {
    const { base, next, state, texts, event, joined, low, high } = main.dataset;
    this.main = main;
    this.base = base;
    this.query = `?next=${encodeURIComponent(next)}`;
    this.event = event;
    this.texts = JSON.parse(texts);
    this.say = speaker(this.texts);
    this.clock = new Intl.DateTimeFormat(this.texts.lang, { timeStyle: "short" });
    this.relative = new Intl.RelativeTimeFormat(this.texts.lang, { numeric: "auto" });

    this.state = state;
    this.hasPlace = WITH_PLACE.has(state);
    this.joined = joined ? Date.parse(joined) : 0;
    this.due = null;
    this.promised = null;
    this.reason = "";
    this.reasonUntil = 0;
    if (low && high) this.promise([low, high]);
    this.done = 0;
    this.heard = Date.now();
    this.news = "";

    this.asking = null;
    this.lost = false;
    this.key = null;
    this.failures = 0;
    this.timer = 0;
    this.plan = null;

    this.seat = null;
    this.stream = null;
    this.listening = false;
    this.opened = 0;
    this.silentSince = 0;
    this.broken = 0;
    this.listenAt = 0;
    this.latest = "";
    this.missed = 0;
  }

  start() {
    for (const action of ["join", "enter"]) {
      at(action).addEventListener("submit", (event) => {
        event.preventDefault();
        this.ask(action);
      });
    }
    this.offerToNotify();
    // Timers of hidden tabs run late.
    document.addEventListener("visibilitychange", () => document.hidden || this.catchUp(false));
    addEventListener("pageshow", (event) => event.persisted && this.catchUp(true));
    addEventListener("online", () => this.catchUp(true));
    // A page that is kept for "back" is forgotten by the server meanwhile.
    addEventListener("pagehide", () => this.hangUp());
    addEventListener("offline", () => {
      this.hangUp();
      if (this.hasPlace) this.trouble(this.texts.lost);
    });

    if (this.hasPlace) this.contacted();
    if (this.state === "join") this.ask("join");
    else if (this.state === "ready") this.ask("enter");
    else if (this.hasPlace || PERHAPS_WITH_PLACE.has(this.state)) this.later(Number(this.main.dataset.poll));
    if (this.state !== "ready") this.listen();
    this.tick();
    setInterval(() => this.tick(), 1000);
  }

  // Asking

  later(ms, what = "place") {
    this.cancel();
    this.plan = { what, at: Date.now() + ms };
    this.timer = setTimeout(() => this.ask(what), ms);
  }

  cancel() {
    clearTimeout(this.timer);
    this.plan = null;
  }

  catchUp(atOnce) {
    this.tick();
    if (this.plan && (atOnce || Date.now() >= this.plan.at)) this.ask(this.plan.what);
  }

  /** One call at a time, whatever is clicked meanwhile. */
  async ask(what) {
    if (this.asking) return;
    this.cancel();
    if (what === "live") {
      this.listen();
      return this.later(FIRST_EVENT);
    }
    const asking = { what };
    this.asking = asking;
    if (what === "join") this.joining();
    const answer = await this.call(what).catch((failure) => failure);
    // The stream may have been faster.
    if (this.asking === asking) this.settle(what, answer);
  }

  settle(what, answer) {
    this.asking = null;
    try {
      if (answer instanceof Error) throw answer;
      if (this.lost) this.trouble("");
      if (what === "join") this.key = null;
      this.understand(what, answer);
      this.failures = 0;
      if (this.hasPlace) this.contacted();
    } catch (failure) {
      this.fail(what, failure);
    }
  }

  /** The answer's body, and Retry-After in ms. */
  async call(what) {
    const abort = new AbortController();
    const timeout = setTimeout(() => abort.abort(), TIMEOUT);
    const headers = { accept: "application/json" };
    if (what === "join") headers["idempotency-key"] = this.key;
    try {
      const response = await fetch(`${this.base}/${what}${this.query}`, {
        method: what === "place" ? "GET" : "POST",
        headers,
        credentials: "same-origin",
        cache: "no-store",
        signal: abort.signal,
      });
      const retryAfter = Number(response.headers.get("retry-after")) * 1000 || 0;
      // A proxy's own page is no JSON.
      const body = await response.json().catch(() => null);
      if (!body || response.status >= 500) throw new Failure(body?.error?.code, retryAfter);
      return { ...body, retryAfter };
    } finally {
      clearTimeout(timeout);
    }
  }

  fail(what, failure) {
    const { code, retryAfter = 0 } = failure;
    this.failures += 1;
    // Where nothing answers, a stream that is silent may be dead; and one that failed may be as good as any.
    if (!(failure instanceof Failure)) this.hangUp();
    this.broken = this.listenAt = 0;
    // Nobody is told that a place is safe that they do not have.
    if (this.hasPlace) this.trouble(this.texts.lost);
    else this.show(code === "OVERLOADED" ? "busy" : "unavailable");
    // A join is repeated with its key: if it had succeeded, the same place is the answer.
    this.later(backOff(this.failures, retryAfter), what);
  }

  understand(what, answer) {
    if (answer.error) return this.refused(what, answer.error, answer.retryAfter);
    if (answer.location) {
      this.hangUp();
      return location.replace(answer.location);
    }
    if (what === "join") {
      this.hasPlace = true;
      this.justJoined = true;
      return this.later(0);
    }
    this.justJoined = false;
    this.hear(answer);
    this.compare(what, answer);
    if (answer.status !== "waiting") {
      this.show("ready");
      this.announce();
      return this.ask("enter");
    }
    this.show(WITH_PLACE.has(answer.state) && answer.state !== "ready" ? answer.state : "waiting");
    // All who are told of a pause at once are not to ask at once.
    const silence = Math.min(Math.max(5 * answer.poll_after_ms, QUIET / 4), QUIET);
    this.later(this.listening ? silence * (1 - Math.random() / 4) : answer.poll_after_ms);
  }

  refused(what, { code, poll_after_ms: after = 0 }, retryAfter) {
    const again = Math.max(after, retryAfter, RETRY_FIRST);
    if (GONE.has(code)) {
      if (this.justJoined) return this.show("cookies_off");
      if (this.hasPlace || code === "TOKEN_EXPIRED") return this.show("expired");
      return what === "join" ? this.show("unavailable") : this.ask("join");
    }
    switch (code) {
      case "NOT_READY":
        this.show("waiting");
        return this.later(again);
      case "EVENT_PAUSED":
        this.show("paused");
        return this.later(again);
      case "RATE_LIMITED":
        this.show("busy");
        return this.later(again, what);
      case "EVENT_NOT_FOUND":
        return this.show("not_found");
      case "INVALID_REQUEST":
        // The event's targets were changed meanwhile.
        return this.show("bad_link");
      default:
        throw new Failure(code, retryAfter);
    }
  }

  hear({ position, people, eta_range_sec: range, reason, waiting_time: waited, approximate }) {
    if (range) this.promise(range, reason);
    else this.due = null;
    if (!this.joined) this.joined = Date.now() - waited * 1000;
    this.place(position, people ?? position - 1, approximate);
  }

  /** A promise that slips by more than its range is told, with the reason if the server has one. */
  promise(range, reason) {
    const now = Date.now();
    this.due = renewed(this.promised, range, now);
    this.promised = this.due.promised;
    if (!this.due.late) return;
    this.reason = this.texts.reasons[reason] ?? this.texts.slower;
    this.reasonUntil = now + REASON_SHOWN;
  }

  // Listening: what polls would ask for is told by a stream. While it is, they rest, but for one after a silence: a
  // script does not see the comments that keep a stream alive, and its proxy may hold back the rest.

  async listen() {
    const may = () => !this.stream && this.hasPlace && Date.now() >= this.listenAt;
    if (!may()) return;
    this.seat ??= takeSeat();
    if (!(await this.seat)) this.seat = null;
    if (!this.seat || !may()) return;
    const stream = new EventSource(`${this.base}/live${this.query}`);
    this.stream = stream;
    this.opened = this.silentSince = Date.now();
    stream.addEventListener("place", ({ data }) => {
      this.listening = true;
      this.silentSince = this.missed = 0;
      const { what } = this.asking ?? this.plan ?? {};
      // They have their own way on, and their own pace.
      if (what === "join" || what === "enter") return;
      this.cancel();
      this.settle("live", JSON.parse(data));
    });
    stream.addEventListener("bye", ({ data }) => {
      const { listening } = this;
      const { reconnect_ms: after } = JSON.parse(data);
      this.contacted();
      this.hangUp(after, "live");
      this.listening = listening;
      this.listenAt = Date.now() + after;
    });
    // A poll knows more of a place that is gone: another tab may have gone in.
    stream.addEventListener("gone", () => this.unheard());
    stream.addEventListener("error", () => this.unheard(stream.readyState === EventSource.CLOSED));
  }

  /** Closes the stream. Polls that rested because of it go on after `ms`. */
  hangUp(ms = RETRY_FIRST, what = "place") {
    this.stream?.close();
    this.stream = null;
    this.silentSince = this.missed = 0;
    const rested = this.listening && (this.plan?.what === "place" || this.plan?.what === "live");
    this.listening = false;
    if (rested) this.later(ms, what);
  }

  /** A stream that breaks is opened again soon, one that is refused or held back not before long. Nobody is lost. */
  unheard(refused = false) {
    // Everybody who listened to a process that died is here at the same time.
    const soon = Math.random() * RETURN;
    // One that breaks after its first event, again and again, costs more than polls.
    if (Date.now() - this.opened >= SHORT_LIVED) this.broken = 0;
    this.broken = refused ? STREAM_FAILURES : this.broken + 1;
    this.listenAt = Date.now() + (this.broken < STREAM_FAILURES ? soon : LISTEN_AGAIN);
    this.hangUp(soon);
  }

  /** Two polls in a row that find what no event told, or no event at all, and the stream is given up. */
  compare(what, { status, state, position }) {
    const told = [status, state, position].join();
    const changed = told !== this.latest;
    this.latest = told;
    if (what === "live") return;
    if (this.listening && changed) this.missed += 1;
    if (this.missed > 1 || (this.silentSince && Date.now() - this.silentSince >= FIRST_EVENT)) this.unheard(true);
    this.listen();
  }

  // Showing

  joining() {
    this.key ??= randomKey();
    this.joined = 0;
    this.done = 0;
    this.promised = null;
    at("join").hidden = true;
    text("headline", this.texts.joining);
    text("advice", "");
  }

  show(state) {
    this.state = state;
    this.main.dataset.state = state;
    this.hasPlace = WITH_PLACE.has(state) || (this.hasPlace && PERHAPS_WITH_PLACE.has(state));
    if (!this.hasPlace) this.hangUp();
    const { headline, advice } = this.texts.states[state];
    text("headline", headline);
    text("advice", advice);
    for (const element of document.querySelectorAll("[data-in]")) {
      element.hidden = !element.dataset.in.split(" ").includes(state);
    }
    at("join").querySelector("button").textContent = state === "join" ? this.texts.join : this.texts.join_again;
    this.tick();
  }

  trouble(words) {
    this.lost = words === this.texts.lost;
    this.main.toggleAttribute("data-lost", this.lost);
    text("trouble", words);
  }

  contacted() {
    this.heard = Date.now();
    at("contacted").hidden = false;
  }

  place(position, people, approximate) {
    const known = position > 0;
    at("place").parentElement.hidden = !known;
    text("place", known ? this.say.place(position, approximate) : "");
    text("ahead", known ? this.say.ahead(people, approximate) : "");
  }

  /** Once a second: what time alone changes. */
  tick() {
    const now = Date.now();
    const { headline } = this.texts.states[this.state];
    let tab = headline;
    let sentence = headline;
    let news = headline;
    const moves = this.state === "waiting" || this.state === "full";
    if (moves) {
      if (this.due) {
        // The promise counts down to nothing and stays there: only the door knows when it opens.
        const [low, high] = [this.due.low, this.due.high].map((end) => Math.max(end - now, 0));
        const wait = this.say.wait(rounded(low / 1000, high / 1000));
        this.showWait(wait);
        this.advance(progress(now - this.joined, (low + high) / 2));
        tab = wait.short;
        sentence = `${headline}: ${wait.sentence}`;
        // A place that comes free is taken at once: "full" comes and goes, and is no news beside the wait.
        news = wait.sentence;
      } else {
        delete at("wait").dataset.shown;
        text("wait", this.texts.no_eta);
      }
    }
    if (!this.lost) text("trouble", now < this.reasonUntil && moves ? this.reason : "");
    document.title = `${tab} · ${this.event}`;
    if (this.news && this.news !== news) text("spoken", sentence);
    this.news = news;
    at("progress").hidden = !this.due || !this.joined;
    if (this.joined) {
      at("since").dateTime = new Date(this.joined).toISOString();
      at("since").closest("div").hidden = false;
      text("since", this.clock.format(this.joined));
    }
    // In steps, so that the eye is not drawn to it.
    const age = Math.floor((now - this.heard) / 1000);
    text(
      "contact",
      age < 60
        ? this.relative.format(-(age - (age % 5)), "second")
        : this.relative.format(-Math.floor(age / 60), "minute"),
    );
  }

  showWait({ before, number, spoken, after, sentence }) {
    const wait = at("wait");
    if (wait.dataset.shown === sentence) return;
    wait.dataset.shown = sentence;
    const big = document.createElement("b");
    big.textContent = number;
    if (number === spoken) return wait.replaceChildren(before, big, after);
    big.ariaHidden = "true";
    const read = document.createElement("span");
    read.className = "spoken";
    read.textContent = spoken;
    wait.replaceChildren(before, big, read, after);
  }

  /** Forward. When the promise slips it rests until it is right again; it goes back only when the page says why. */
  advance(part) {
    this.done = Date.now() < this.reasonUntil ? part : Math.max(this.done, part);
    at("progress").style.setProperty("--done", this.done.toFixed(4));
  }

  // Notifications: asked for only by their button

  offerToNotify() {
    if (!("Notification" in globalThis) || !isSecureContext) return;
    const button = at("notify");
    button.hidden = false;
    button.addEventListener("click", async () => {
      this.notifies = (await Notification.requestPermission()) === "granted";
      button.textContent = this.notifies ? this.texts.notify_on : this.texts.notify_blocked;
    });
  }

  announce() {
    if (!this.notifies) return;
    this.notifies = false;
    try {
      const notification = new Notification(this.texts.notification, { body: this.event, tag: this.base });
      notification.onclick = () => focus();
    } catch {
      // Some phones allow them from service workers alone.
    }
  }
}

/** Over HTTP/1.1 all tabs of a site share six connections: four may listen. The lock lasts as long as the tab. */
async function takeSeat() {
  // Not over plain http, nor wherever else a browser has none: then nobody counts.
  if (!navigator.locks) return true;
  for (let number = 0; number < SEATS; number++) {
    const taken = await new Promise((answer) => {
      const held = navigator.locks.request(`daegi-live-${number}`, { ifAvailable: true }, (lock) => {
        answer(Boolean(lock));
        return lock && new Promise(() => {});
      });
      held.catch(() => answer(true));
    });
    if (taken) return true;
  }
  return false;
}

function randomKey() {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}

function at(id) {
  return document.getElementById(id);
}

/** Changes only what differs: a selection and a live region stay as they are. */
function text(id, words) {
  const element = at(id);
  if (element.textContent !== words) element.textContent = words;
}

if (globalThis.document) new Room(at("room")).start();
