package router

import (
	"bytes"
	"maps"
	"net/url"
	"slices"
	"strings"
	"sync"
	"unicode"
	"unicode/utf8"

	"eventrouter/pkg/event"
	"eventrouter/pkg/store"
)

// forgottenPerson is who is to be forgotten, with the ids in plain.
type forgottenPerson struct {
	mu    sync.RWMutex // guards the fields below; what they hold is replaced, not changed
	ids   map[store.PersonID]bool
	words *forgottenWords
}

// forgottenWords are a person's ids as texts are looked through for them.
type forgottenWords struct {
	emails  []string // in lower case, also as they stand in URLs and in JSON
	values  []string // other ids, likewise, but in their own case
	anyCase bool     // an e-mail is not ASCII: data is not looked through for it byte by byte
	escaped bool     // JSON may write some of them with a backslash that is not of \u

	apiKeys map[string][]string // of which an id is, by the id in lower case
}

func newForgottenPerson(ids []store.PersonID) *forgottenPerson {
	p := &forgottenPerson{}
	p.learn(ids)
	return p
}

// learn adds ids.
func (p *forgottenPerson) learn(ids []store.PersonID) {
	p.mu.Lock()
	defer p.mu.Unlock()
	all := make(map[store.PersonID]bool, len(p.ids)+len(ids))
	maps.Copy(all, p.ids)
	for _, id := range ids {
		all[id] = true
	}
	p.ids, p.words = all, newForgottenWords(all)
}

// all are the ids.
func (p *forgottenPerson) all() map[store.PersonID]bool {
	p.mu.RLock()
	defer p.mu.RUnlock()
	return p.ids
}

func (p *forgottenPerson) lookFor() *forgottenWords {
	p.mu.RLock()
	defer p.mu.RUnlock()
	return p.words
}

func newForgottenWords(ids map[store.PersonID]bool) *forgottenWords {
	w := &forgottenWords{apiKeys: map[string][]string{}}
	inJSON := strings.NewReplacer("@", `\u0040`, "+", `\u002b`, "/", `\/`)
	for id := range ids {
		key := strings.ToLower(id.Value)
		w.apiKeys[key] = append(w.apiKeys[key], id.APIKey)
		w.escaped = w.escaped || strings.ContainsFunc(id.Value, func(r rune) bool { return r < ' ' || r == '"' || r == '\\' || r == '/' })
		quoted := string(event.AppendString(nil, id.Value))
		spellings := []string{id.Value, quoted[1 : len(quoted)-1], strings.ReplaceAll(id.Value, "/", `\/`), url.QueryEscape(id.Value), url.PathEscape(id.Value)}
		if id.Kind != store.KindEmail {
			w.values = append(w.values, spellings...)
			continue
		}
		for _, s := range append(spellings, strings.ReplaceAll(id.Value, "@", "%40"), inJSON.Replace(id.Value)) {
			w.emails = append(w.emails, lower(s))
		}
		w.anyCase = w.anyCase || strings.ContainsFunc(id.Value, func(r rune) bool { return r >= utf8.RuneSelf })
	}
	slices.Sort(w.emails)
	slices.Sort(w.values)
	w.emails, w.values = slices.Compact(w.emails), slices.Compact(w.values)
	return w
}

func (p *forgottenPerson) has(id store.PersonID) bool {
	ids := p.all()
	return slices.ContainsFunc(id.Names(), func(id store.PersonID) bool { return ids[id] })
}

// isKey says whether a key by which a destination orders entries of an API key is one of the person's ids, in any case of letters: destinations may take any of
// them, and put it in lower case. apiKey "" is any.
func (p *forgottenPerson) isKey(apiKey, key string) bool {
	return slices.ContainsFunc(p.lookFor().apiKeys[strings.ToLower(key)], func(own string) bool { return apiKey == "" || own == "" || own == apiKey })
}

// may says whether data can hold anything of the person; scratch is for a copy in lower case. False is certain: also of JSON with escapes.
func (p *forgottenPerson) may(data []byte, scratch *[]byte) bool {
	w := p.lookFor()
	if w.anyCase || bytes.Contains(data, []byte(`\u`)) || w.escaped && bytes.IndexByte(data, '\\') >= 0 {
		return true
	}
	for _, v := range w.values {
		if bytes.Contains(data, []byte(v)) {
			return true
		}
	}
	small := append((*scratch)[:0], data...)
	*scratch = small
	for i, c := range small {
		if 'A' <= c && c <= 'Z' {
			small[i] = c + 'a' - 'A'
		}
	}
	for _, email := range w.emails {
		if bytes.Contains(small, []byte(email)) {
			return true
		}
	}
	return false
}

// shortestInText is how long an id must be to be looked for inside a text: "7" stands in many.
const shortestInText = 4

// spans are the places of a text that name the person: e-mails in any case of letters, and other ids as they are, as words of their own.
func (p *forgottenPerson) spans(text string) (spans [][2]int) {
	find := func(in, what string, isPart func(text string, from, to int) bool) {
		for at := 0; ; {
			i := strings.Index(in[at:], what)
			if i < 0 {
				return
			}
			from, to := at+i, at+i+len(what)
			if !isPart(in, from, to) {
				spans = append(spans, [2]int{from, to})
			}
			at = from + 1
		}
	}
	w := p.lookFor()
	small := lower(text)
	for _, email := range w.emails {
		find(small, email, isPartOfEmail)
	}
	for _, v := range w.values {
		if len(v) >= shortestInText || strings.Trim(text, `"`) == v {
			find(text, v, isPartOfWord)
		}
	}
	return spans
}

// lower is text in lower case, with every letter at its place: one whose lower case has another length stays.
func lower(text string) string {
	if !strings.ContainsFunc(text, func(r rune) bool { return r >= utf8.RuneSelf }) {
		return strings.ToLower(text)
	}
	small := []byte(text)
	for i := 0; i < len(text); {
		r, n := utf8.DecodeRuneInString(text[i:])
		if l := unicode.ToLower(r); l != r && utf8.RuneLen(l) == n {
			utf8.EncodeRune(small[i:], l)
		}
		i += n
	}
	return string(small)
}

// isPartOfWord says whether text[from:to] goes on before or behind.
func isPartOfWord(text string, from, to int) bool {
	before, _ := utf8.DecodeLastRuneInString(text[:from])
	behind, _ := utf8.DecodeRuneInString(text[to:])
	return isAlphanumeric(before) || isAlphanumeric(behind)
}

// isPartOfEmail says whether text[from:to] is a part of a longer address: x.ann@b.co, ann@b.co.uk. An underscore before it may join a word to it, as in keys.
func isPartOfEmail(text string, from, to int) bool {
	if isPartOfWord(text, from, to) || from > 0 && strings.IndexByte(".+-%", text[from-1]) >= 0 || to < len(text) && text[to] == '-' {
		return true
	}
	if to == len(text) || text[to] != '.' {
		return false
	}
	next, _ := utf8.DecodeRuneInString(text[to+1:])
	return isAlphanumeric(next)
}

func isAlphanumeric(r rune) bool {
	return r != utf8.RuneError && (unicode.IsLetter(r) || unicode.IsNumber(r))
}

func (p *forgottenPerson) names(text string) bool { return len(p.spans(text)) > 0 }

// mask puts stars in the places that name the person.
func (p *forgottenPerson) mask(text string) (masked string, changed bool) {
	spans := p.spans(text)
	if len(spans) == 0 {
		return text, false
	}
	b := []byte(text)
	for _, s := range spans {
		for i := s[0]; i < s[1]; i++ {
			b[i] = '*'
		}
	}
	return string(b), true
}
