package main

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"net/url"
	"slices"
	"strings"

	"eventrouter/pkg/config"
	"eventrouter/pkg/event"
	"eventrouter/pkg/redact"
	"eventrouter/pkg/router"
	"eventrouter/pkg/store"
)

// redactor keeps the secrets of a configuration out of what people are shown, wherever a client may have put them.
type redactor struct {
	replacer *strings.Replacer
	secrets  []string // newest first
}

// maxSecrets bounds the secrets of earlier configurations: a token that changes every hour makes so many in a year.
const maxSecrets = 10_000

// newRedactor knows the secrets of cfg and those that earlier ones had: what was kept under them may be asked for later.
func newRedactor(cfg *config.Config, earlier ...string) redactor {
	known := map[string]bool{}
	var secrets []string
	for _, secret := range append(cfg.Secrets(), earlier...) {
		if !known[secret] && len(secrets) < maxSecrets {
			known[secret] = true
			secrets = append(secrets, secret)
		}
	}
	// One may begin as another does: the longest is looked for first.
	longest := slices.Clone(secrets)
	slices.SortStableFunc(longest, func(a, b string) int { return len(b) - len(a) })
	var pairs []string
	for _, secret := range longest {
		for _, spelling := range spellings(secret) {
			pairs = append(pairs, spelling, "***")
		}
	}
	return redactor{strings.NewReplacer(pairs...), secrets}
}

// spellings are a secret as it is, as it stands in addresses, and as the user name of Basic credentials.
func spellings(secret string) []string {
	query := url.QueryEscape(secret)
	path := url.PathEscape(secret)
	all := []string{secret}
	for _, s := range []string{query, path, lowerEscapes(query), lowerEscapes(path)} {
		if !slices.Contains(all, s) {
			all = append(all, s)
		}
	}
	if whole := len(secret) / 3 * 3; whole >= 9 { // what follows does not change the beginning; less might be part of a harmless word
		all = append(all, base64.StdEncoding.EncodeToString([]byte(secret[:whole])))
		if s := base64.URLEncoding.EncodeToString([]byte(secret[:whole])); s != all[len(all)-1] {
			all = append(all, s)
		}
	}
	return all
}

// lowerEscapes is an escaped text with the small letters that some clients write escapes with.
func lowerEscapes(text string) string {
	b := []byte(text)
	for i := 0; i+2 < len(b); i++ {
		if b[i] == '%' {
			copy(b[i:], bytes.ToLower(b[i:i+3]))
		}
	}
	return string(b)
}

// json encodes v without secrets. It looks into texts as they read, however they are escaped; a number is no secret, and stays.
func (r redactor) json(v any) ([]byte, error) {
	data, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	var out []byte
	for {
		start := bytes.IndexByte(data, '"')
		if start < 0 {
			return append(out, data...), nil
		}
		end := start + 1
		for data[end] != '"' {
			if data[end] == '\\' {
				end++
			}
			end++
		}
		end++
		text := data[start:end]
		out = append(out, data[:start]...)
		data = data[end:]
		var plain string
		if err := json.Unmarshal(text, &plain); err != nil {
			return nil, err
		}
		if clean := r.replacer.Replace(plain); clean != plain {
			if text, err = json.Marshal(clean); err != nil {
				return nil, err
			}
		}
		out = append(out, text...)
	}
}

// text is a text without secrets.
func (r redactor) text(text string) string { return r.replacer.Replace(text) }

// hidePersons takes out of an explanation by whom events are, where e-mails are hidden. Errors and details were without hidden values when they
// were stored.
func hidePersons(x *router.Explanation, hidden *redact.Fields) {
	for i := range x.Receipts {
		r := &x.Receipts[i]
		r.Person = hidden.Person(r.Person)
		for j := range r.Outputs {
			r.Outputs[j].Person = hidden.Person(r.Outputs[j].Person)
		}
	}
}

// shownLetter is a dead letter as people may see it, with its event as JSON, and the event as it came in where a transform changed it; nil: that is not to
// be read. A transform may have moved a value to a member of another name, where it is hidden all the same.
func (r redactor) shownLetter(d store.DeadLetter, hidden *redact.Fields) (_ store.DeadLetter, shown, original []byte) {
	ev, first := eventIn(d.Event), eventIn(d.Original)
	if hidden.Active() {
		var values redact.Values
		if ev.JSON != nil {
			values = hidden.Values(ev.JSON, ev.AppendView(nil))
		}
		if first.JSON != nil {
			moved := hidden.Values(first.JSON, first.AppendView(nil))
			d.Error, d.Problem, ev.JSON = moved.Text(d.Error), moved.Text(d.Problem), moved.Detail(ev.JSON)
		}
		d.Error, d.Problem = values.Text(d.Error), values.Text(d.Problem)
	}
	d.Error, d.Problem = r.text(d.Error), r.text(d.Problem)
	d.Person, d.EventID, d.EventType = r.text(hidden.Person(d.Person)), r.text(d.EventID), r.text(d.EventType)
	return d, hidden.JSON(ev.JSON), hidden.JSON(first.JSON)
}

// eventIn is the event of a record; without JSON: there is none, or it is not to be read.
func eventIn(record []byte) (ev event.Event) {
	if len(record) == 0 || ev.Decode(record) != nil {
		return event.Event{}
	}
	return ev
}
