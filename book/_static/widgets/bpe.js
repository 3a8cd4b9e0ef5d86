// The tokenizer of chapter 1 in plain JavaScript: text -> pieces -> bytes -> merges -> ids.
//
// A token is a number here, its symbol: 0 to 255 are the single bytes, 256 + n is what merge n
// makes. So the symbol of a merge is also its rank: the lower, the earlier it was learned. Nothing
// here touches the page: tokens.js does.
(() => {
  "use strict";
  const course = (globalThis.course ??= {});

  // The file writes each byte as one printable character, as GPT-2's does: itself where that is
  // one, else the next unused character from U+0100.
  const BYTE_OF = new Map();
  for (let byte = 0, unused = 0x100; byte < 256; byte++) {
    const printable =
      (byte > 0x20 && byte < 0x7f) || (byte > 0xa0 && byte < 0xad) || byte > 0xad;
    BYTE_OF.set(String.fromCharCode(printable ? byte : unused++), byte);
  }

  // The regular expression as JavaScript writes it. Its own \s has another idea of whitespace
  // (it takes U+FEFF and leaves U+0085), so the property of Unicode stands in for it.
  function compilePattern(pattern) {
    const source = pattern
      .replaceAll("\\s", "\\p{White_Space}")
      .replaceAll("\\S", "\\P{White_Space}");
    return new RegExp(source, "gu");
  }

  class Tokenizer {
    // data: {pattern, byte_ids, first_merge_id, merges: "left right" each, special_tokens}
    constructor(data) {
      this.pattern = compilePattern(data.pattern);
      this.specialTokens = data.special_tokens;
      this.bytes = Array.from({ length: 256 }, (_, byte) => [byte]); // symbol -> its bytes
      this.pairs = []; // merge number -> the two symbols that it joins
      this.merged = new Map(); // two symbols, as one number -> the symbol that they become
      const symbolOf = new Map(); // name in the file -> symbol
      for (const [name, byte] of BYTE_OF) symbolOf.set(name, byte);
      for (const merge of data.merges) {
        const [left, right] = merge.split(" ");
        const pair = [symbolOf.get(left), symbolOf.get(right)];
        const symbol = this.bytes.length;
        this.pairs.push(pair);
        this.merged.set(key(...pair), symbol);
        this.bytes.push([...this.bytes[pair[0]], ...this.bytes[pair[1]]]);
        symbolOf.set(left + right, symbol);
      }
      this.ids = [...data.byte_ids]; // symbol -> id
      for (let n = 0; n < this.pairs.length; n++) this.ids.push(data.first_merge_id + n);
      this.bytesOfId = new Map(this.ids.map((id, symbol) => [id, this.bytes[symbol]]));
      for (const [name, id] of Object.entries(this.specialTokens)) {
        this.bytesOfId.set(id, [...new TextEncoder().encode(name)]);
      }
    }

    // Text -> the parts inside which pairs are merged, roughly words.
    split(text) {
      if (/\p{Surrogate}/u.test(text)) {
        throw new RangeError("text holds a lone surrogate, which is no character.");
      }
      return text.match(this.pattern) ?? [];
    }

    // Text -> for each piece its bytes, which are the first symbols.
    start(text) {
      return this.split(text).map((piece) => [...new TextEncoder().encode(piece)]);
    }

    // The symbol of the lowest rank that two neighbours would make, or Infinity.
    lowest(symbols) {
      let best = Infinity;
      for (let i = 0; i + 1 < symbols.length; i++) {
        best = Math.min(best, this.merged.get(key(symbols[i], symbols[i + 1])) ?? Infinity);
      }
      return best;
    }

    // The symbols with each pair that makes `symbol` joined, from left to right.
    merge(symbols, symbol) {
      const joined = [];
      for (let i = 0; i < symbols.length; i++) {
        const fits = this.merged.get(key(symbols[i], symbols[i + 1] ?? 0)) === symbol;
        if (fits && i + 1 < symbols.length) {
          joined.push(symbol);
          i++;
        } else {
          joined.push(symbols[i]);
        }
      }
      return joined;
    }

    // One piece: merge by lowest rank until no pair has one.
    mergeAll(symbols) {
      for (let next; (next = this.lowest(symbols)) !== Infinity; ) {
        symbols = this.merge(symbols, next);
      }
      return symbols;
    }

    // Text -> ids. Special tokens are text like any other.
    encode(text) {
      return this.start(text).flatMap((piece) => this.mergeAll(piece).map((s) => this.ids[s]));
    }

    // Ids -> text. Bytes that are not UTF-8 become U+FFFD.
    decode(ids) {
      return utf8().decode(new Uint8Array(ids.flatMap((id) => this.bytesOf(id))));
    }

    // Ids -> what each one adds to the text. A character that several tokens share appears with
    // the last of them.
    decodeEach(ids) {
      const decoder = utf8();
      const parts = ids.map((id) =>
        decoder.decode(new Uint8Array(this.bytesOf(id)), { stream: true }),
      );
      if (parts.length) parts[parts.length - 1] += decoder.decode();
      return parts;
    }

    bytesOf(id) {
      const bytes = this.bytesOfId.get(id);
      if (!bytes) throw new RangeError(`ids: ${id} is not an id of this vocabulary.`);
      return bytes;
    }

    // All of a text step by step: [{symbol, pieces}], at first the bytes, with symbol null, then
    // after each merge. A merge only makes room for merges of a higher rank, so the lowest rank
    // of all pieces can go first everywhere, and each rank comes up once.
    steps(text) {
      let pieces = this.start(text);
      const steps = [{ symbol: null, pieces }];
      for (;;) {
        const next = pieces.map((piece) => this.lowest(piece));
        const symbol = next.reduce((least, s) => Math.min(least, s), Infinity);
        if (symbol === Infinity) return steps;
        pieces = pieces.map((piece, n) => (next[n] === symbol ? this.merge(piece, symbol) : piece));
        steps.push({ symbol, pieces });
      }
    }
  }

  // Two symbols as one number; there are fewer than 2 ** 20 symbols.
  const key = (left, right) => left * 2 ** 20 + right;

  // A byte order mark at the start is text too.
  const utf8 = () => new TextDecoder("utf-8", { ignoreBOM: true });

  // Bytes as a reader can see them: spaces and line ends get a sign, bytes that are no whole
  // character are written as in Python.
  function visible(bytes) {
    const decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });
    let text;
    try {
      text = decoder.decode(new Uint8Array(bytes));
    } catch {
      return bytes
        .map((b) => (b >= 0x20 && b < 0x7f ? String.fromCharCode(b) : hex("\\x", b, 2)))
        .join("")
        .replaceAll(" ", "␣");
    }
    return text
      .replaceAll(" ", "␣")
      .replaceAll("\n", "↵")
      .replaceAll("\t", "⇥")
      .replace(/[\p{White_Space}\p{C}]/gu, (c) => hex("\\u", c.codePointAt(0), 4))
      .replace(/^\p{M}/u, (mark) => `\u25cc${mark}`); // a mark needs something to stand on
  }

  const hex = (prefix, number, digits) => prefix + number.toString(16).padStart(digits, "0");

  course.bpe = { Tokenizer, visible };
})();
