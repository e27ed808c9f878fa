package hubspot

import (
	"bytes"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/tidwall/gjson"
)

// Codes of problems with a property, as HubSpot names them.
const (
	codeUnknownProperty = "PROPERTY_DOESNT_EXIST"
	codeReadOnly        = "READ_ONLY_VALUE"
	codeInvalidOption   = "INVALID_OPTION"
	codeInvalidEmail    = "INVALID_EMAIL"
	codeRequired        = "MISSING_REQUIRED_PROPERTY"
	codeRequiredIf      = "MISSING_CONDITIONAL_REQUIRED_PROPERTY"
)

// answer is a complete answer to a call.
type answer struct {
	status      int
	header      http.Header
	body        []byte
	correlation string
}

// refusal is the error body of a call, or one error of a partial success. HubSpot asks its clients to treat every field as optional.
type refusal struct {
	category    string
	message     string
	correlation string
	policy      string // of a 429
	problems    []problem
	codes       []string // category, and what is finer: subCategory and code, of the whole and of each error
	uuids       []string // context.uuid, of the whole and of each error
	traceIDs    []string // context.objectWriteTraceId
	ids         []string // context.ids
	scopes      []string // context.requiredGranularScopes
}

// problem is what is wrong with one property, or with the record when property is "".
type problem struct{ code, property, message string }

// parseRefusal reads an error body. It finds nothing in one that is not JSON, such as those of the network in front of HubSpot.
func parseRefusal(body []byte) refusal {
	var r refusal
	body = bytes.TrimSpace(body)
	if len(body) == 0 || body[0] != '{' {
		return r
	}
	gjson.ParseBytes(body).ForEach(func(k, v gjson.Result) bool {
		switch k.Str {
		case "category":
			r.category = v.Str
			r.addCode(v)
		case "subCategory":
			r.addCode(v)
		case "message":
			r.message = v.Str
		case "correlationId":
			r.correlation = v.Str
		case "policyName":
			r.policy = v.Str
		case "context":
			r.traceIDs = texts(v.Get("objectWriteTraceId"))
			r.ids = texts(v.Get("ids"))
			r.scopes = texts(v.Get("requiredGranularScopes"))
			r.uuids = append(r.uuids, texts(v.Get("uuid"))...)
		case "errors":
			if !v.IsArray() {
				break
			}
			v.ForEach(func(_, e gjson.Result) bool {
				p := problem{code: e.Get("code").Str, message: e.Get("message").Str}
				r.addCode(e.Get("code"))
				r.addCode(e.Get("subCategory"))
				r.uuids = append(r.uuids, texts(e.Get("context.uuid"))...)
				names := texts(e.Get("context.propertyName"))
				if len(names) == 0 {
					names = []string{""}
				}
				for _, name := range names {
					p.property = name
					r.add(p)
				}
				return true
			})
		}
		return true
	})
	// The list in the message is longer than errors[] in recordings, and in some answers errors[] is missing.
	for _, p := range embeddedProblems(r.message) {
		r.add(p)
	}
	return r
}

// maxProblems bounds what is kept of an answer: a batch has at most 100 inputs.
const maxProblems = 1000

func (r *refusal) add(p problem) {
	if len(r.problems) < maxProblems && !slices.Contains(r.problems, p) {
		r.problems = append(r.problems, p)
	}
}

// addCode keeps a word of HubSpot's that is meant for programs; a subCategory may be an object.
func (r *refusal) addCode(v gjson.Result) {
	if text := v.String(); text != "" && len(r.codes) < maxProblems {
		r.codes = append(r.codes, text)
	}
}

// words are all that the refusal says, in lower case.
func (r *refusal) words() string {
	var b strings.Builder
	b.WriteString(r.message)
	for _, p := range r.problems {
		b.WriteString(" " + p.message)
	}
	for _, code := range r.codes {
		b.WriteString(" " + code)
	}
	return strings.ToLower(b.String())
}

// embeddedProblems reads the JSON that HubSpot puts into the text of a message: "Property values were not valid: [{...},...]".
// A list that is cut short is read as far as its objects are whole.
func embeddedProblems(message string) []problem {
	_, list, ok := strings.Cut(message, "[{")
	if !ok {
		return nil
	}
	list = "{" + list
	var all []problem
	for {
		end := objectEnd(list)
		if end < 0 {
			return all
		}
		e := gjson.Parse(list[:end])
		p := problem{code: e.Get("error").Str, property: e.Get("name").Str, message: e.Get("message").Str}
		if p.code != "" || p.property != "" {
			all = append(all, p)
		}
		next := strings.IndexByte(list[end:], '{')
		if next < 0 || len(all) == maxProblems {
			return all
		}
		list = list[end+next:]
	}
}

// objectEnd returns the index after the object that s begins with, or -1 when s ends before.
func objectEnd(s string) int {
	depth, inString := 0, false
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case inString && c == '\\':
			i++
		case c == '"':
			inString = !inString
		case inString:
		case c == '{':
			depth++
		case c == '}':
			if depth--; depth == 0 {
				return i + 1
			}
		}
	}
	return -1
}

// texts returns the strings of a list, or of one string.
func texts(v gjson.Result) []string {
	if v.Type == gjson.String {
		return []string{v.Str}
	}
	if !v.IsArray() {
		return nil
	}
	var all []string
	v.ForEach(func(_, item gjson.Result) bool {
		if item.Type == gjson.String || item.Type == gjson.Number {
			all = append(all, item.String())
		}
		return len(all) < maxProblems
	})
	return all
}

// String is the refusal in one short line: at most about 200 bytes of HubSpot's own words.
func (r *refusal) String() string {
	var b strings.Builder
	b.WriteString(r.category)
	if r.message != "" {
		if b.Len() > 0 {
			b.WriteString(": ")
		}
		b.WriteString(shorten(r.message))
	}
	return b.String()
}

const maxAnswerText = 200

// shorten cuts HubSpot's words for an error message: they may quote what a customer wrote at any length.
func shorten(s string) string {
	if len(s) <= maxAnswerText {
		return strings.ToValidUTF8(s, "")
	}
	return strings.ToValidUTF8(s[:maxAnswerText], "") + "..."
}

// upserted is what HubSpot says of one input.
type upserted struct {
	done    bool
	id      string
	created bool
	stage   string // lifecyclestage as it is now; "" where the answer does not say
	refused *refusal
}

// upsertAnswer is the answer to a batch of n inputs whose trace ids are 0 to n-1.
type upsertAnswer struct {
	inputs    []upserted
	results   int            // in results[], whoever they belong to
	errors    int            // numErrors, or the length of errors[] if that is more
	strangers []refusal      // errors that name no input
	nameless  []gjson.Result // results that name none
}

// parseUpsert reads the answer to a batch upsert. Results come in any order, so only the trace id says whose they are.
func parseUpsert(body []byte, n int) upsertAnswer {
	a := upsertAnswer{inputs: make([]upserted, n)}
	listed := 0
	gjson.ParseBytes(body).ForEach(func(k, v gjson.Result) bool {
		switch k.Str {
		case "results":
			if !v.IsArray() {
				break
			}
			v.ForEach(func(_, r gjson.Result) bool {
				a.results++
				a.addResult(r)
				return true
			})
		case "errors":
			if !v.IsArray() {
				break
			}
			v.ForEach(func(_, e gjson.Result) bool {
				listed++
				a.addError(parseRefusal([]byte(e.Raw)))
				return true
			})
		case "numErrors":
			a.errors = int(v.Int())
		}
		return true
	})
	a.errors = max(a.errors, listed)
	return a
}

func (a *upsertAnswer) addResult(r gjson.Result) {
	u, trace := parseUpserted(r)
	if i, ok := a.input(trace); ok {
		a.inputs[i] = u
	} else if trace == "" {
		a.nameless = append(a.nameless, r)
	}
}

func parseUpserted(r gjson.Result) (u upserted, trace string) {
	u.done = true
	r.ForEach(func(k, v gjson.Result) bool {
		switch k.Str {
		case "id":
			u.id = v.String()
		case "new":
			u.created = v.Bool()
		case "properties":
			u.stage = v.Get(stageProperty).Str
		case "objectWriteTraceId":
			trace = v.String()
		}
		return true
	})
	return u, trace
}

// recognise gives results without a trace id to the open inputs whose identity they show; id is that of an input. HubSpot documents trace ids for
// some of its calls only, and a contact that it took must not be sent again for want of one.
func (a *upsertAnswer) recognise(key string, id func(i int) string) {
	if len(a.nameless) == 0 {
		return
	}
	open := make(map[string]int, len(a.inputs))
	for i := range a.inputs {
		if !a.inputs[i].done && a.inputs[i].refused == nil {
			open[id(i)] = i
		}
	}
	rest := a.nameless[:0]
	for _, r := range a.nameless {
		value := r.Get("properties." + key).String()
		switch key {
		case objectIDProperty:
			value = r.Get("id").String()
		case emailProperty:
			value = strings.ToLower(value)
		}
		i, ok := open[value]
		if !ok {
			rest = append(rest, r)
			continue
		}
		a.inputs[i], _ = parseUpserted(r)
		delete(open, value)
	}
	if len(rest) == 1 && len(open) == 1 { // by another address of the contact
		for _, i := range open {
			a.inputs[i], _ = parseUpserted(rest[0])
		}
	}
}

func (a *upsertAnswer) addError(r refusal) {
	named := false
	for _, trace := range r.traceIDs {
		if i, ok := a.input(trace); ok && !a.inputs[i].done {
			a.inputs[i].refused = &r
			named = true
		}
	}
	// One that names other inputs than those that are open is about nobody here.
	if !named && len(r.traceIDs) == 0 && len(a.strangers) < maxProblems {
		a.strangers = append(a.strangers, r)
	}
}

func (a *upsertAnswer) input(trace string) (int, bool) {
	i, err := strconv.Atoi(trace)
	return i, err == nil && i >= 0 && i < len(a.inputs)
}

// parseRates reads what an answer's headers say of the quotas.
func parseRates(h http.Header) rates {
	number := func(name string) int {
		n, err := strconv.Atoi(h.Get(name))
		if err != nil || n < 0 {
			return -1
		}
		return n
	}
	r := rates{
		max: number("X-HubSpot-RateLimit-Max"), remaining: number("X-HubSpot-RateLimit-Remaining"),
		daily: number("X-HubSpot-RateLimit-Daily"), dailyRemaining: number("X-HubSpot-RateLimit-Daily-Remaining"),
	}
	if ms := number("X-HubSpot-RateLimit-Interval-Milliseconds"); ms > 0 && ms <= 24*60*60*1000 {
		r.interval = time.Duration(ms) * time.Millisecond
	}
	if r.daily <= 0 {
		r.dailyRemaining = -1
	}
	return r
}

// maxRetryAfter is the longest wait that is believed: HubSpot says up to 24 hours for 477.
const maxRetryAfter = 24 * time.Hour

// retryAfter is the wait that an answer asks for; 0 when it asks for none.
func (a *answer) retryAfter(now time.Time) time.Duration {
	text := a.header.Get("Retry-After")
	if text == "" {
		return 0
	}
	if s, err := strconv.ParseFloat(text, 64); err == nil {
		return min(max(0, time.Duration(min(s, 1e6)*float64(time.Second))), maxRetryAfter)
	}
	if at, err := http.ParseTime(text); err == nil {
		if sent, err := http.ParseTime(a.header.Get("Date")); err == nil { // by the remote's clock, which may be another than ours
			now = sent
		}
		return min(max(0, at.Sub(now)), maxRetryAfter)
	}
	return 0
}
